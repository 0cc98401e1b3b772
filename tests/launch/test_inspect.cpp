#include <boost/test/unit_test.hpp>

#include "launch/inspect.hpp"

using namespace fastserve;

BOOST_AUTO_TEST_SUITE(inspect)

BOOST_AUTO_TEST_CASE(a_description_becomes_lines) {
  model::model_description facts;
  facts.model_type = "llama\x1b[2J";
  facts.parameters = 1234567;
  facts.layers = 4;
  facts.layer_parameters = 200000;
  facts.embedding_parameters = 300000;
  facts.head_parameters = 134567;
  facts.weight_file_bytes = 2469134;
  facts.layer_bytes = 400000;
  facts.dtypes = {{"BF16", 30, 2469134}};
  facts.files = 1;
  facts.unused = {"a", "b", "c", "d", "e"};
  facts.hidden_size = 64;
  facts.intermediate_size = 172;
  facts.heads = 8;
  facts.kv_heads = 4;
  facts.head_dim = 8;
  facts.vocab_size = 512;
  facts.context_tokens = 2048;
  facts.gated_mlp = true;
  facts.norm = "RMSNorm";
  facts.activation = "silu";
  facts.positions = "rope, theta 10000";
  facts.bos_id = 1;
  facts.eos_ids = {2, 3};
  facts.tokenizer = "tokenizer.json";
  facts.kv_token_bytes_f32 = 1024;
  facts.kv_token_bytes_16bit = 512;
  facts.stage_bytes = {{1, 2469134}, {2, 1300000}};
  BOOST_TEST(launch::format_model("models/demo", facts) ==
             "model           models/demo ('llama\\x1b[2J')\n"
             "parameters      1,234,567: 4 layers of 200,000, embedding 300,000, head 134,567\n"
             "weights         2.47 MB in 1 file, 30 tensors BF16; a layer 400 kB\n"
             "width           64, MLP 172 gated, silu, RMSNorm\n"
             "attention       8 heads of 8, 4 for keys and values\n"
             "positions       rope, theta 10000, context 2,048 tokens\n"
             "vocabulary      512 tokens, begin 1, end 2,3\n"
             "tokenizer       tokenizer.json\n"
             "KV cache        512 B a token in 16 bits, 1.02 kB in f32\n"
             "1 rank          2.47 MB of weights\n"
             "2 ranks         up to 1.30 MB of weights each\n"
             "unused tensors  5: a b c d ...\n");
}

BOOST_AUTO_TEST_SUITE_END()
