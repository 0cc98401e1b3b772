#define BOOST_TEST_MODULE cuda_emulation
#include <boost/test/unit_test.hpp>
