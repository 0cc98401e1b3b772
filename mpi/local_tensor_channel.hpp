#pragma once

#include <memory>

#include "mpi/tensor_channel.hpp"

namespace fastserve::mpi {

/// Connects the stages of one process: endpoint r is to the others what rank r is over MPI. For tests, and
/// for several stages in one process. The endpoints may outlive the hub object.
class local_tensor_hub {
 public:
  explicit local_tensor_hub(int endpoints);

  int size() const;
  /// Throws std::runtime_error when there is no endpoint `rank`.
  std::unique_ptr<tensor_channel> endpoint(int rank);

  struct shared;

 private:
  std::shared_ptr<shared> shared_;
};

}  // namespace fastserve::mpi
