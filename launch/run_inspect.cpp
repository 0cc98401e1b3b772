#include <cstdio>

#include "kernels/backend.hpp"
#include "launch/device_choice.hpp"
#include "launch/inspect.hpp"
#include "launch/run.hpp"
#include "launch/version.hpp"
#include "model/model_folder.hpp"

namespace fastserve::launch {

int run_inspect(const options& settings) {
  model::model_folder folder{settings.model};
  // What the console would refuse is refused here.
  model::open_tokenizer(settings.model);
  std::fputs(format_model(settings.model, folder.describe()).c_str(), stdout);
  return 0;
}

int run_version() {
  version_facts facts;
  facts.mpi_library = mpi::environment::library_version();
  facts.caf = caf_version();
  facts.supported_isas = kernels::supported_isas();
  facts.cuda = built_for_gpus();
  facts.cuda_devices = gpu_names();
  std::fputs(format_version(facts).c_str(), stdout);
  return 0;
}

}  // namespace fastserve::launch
