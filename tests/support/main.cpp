// The main program of every test that needs no launcher.
#define BOOST_TEST_MODULE fastserve
#include <boost/test/unit_test.hpp>
