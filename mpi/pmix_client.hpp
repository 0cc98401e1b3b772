#pragma once

namespace fastserve::mpi {

/// Whether srun started this process, with Slurm's PMIx plugin as the only one that MPI hears of its peers
/// from.
///
/// The plugin ends the whole step when a process that shares its node with others goes without a farewell,
/// whatever srun was told (slurm 22.05 and later, mpi/pmix, error handler:
/// PMIX_ERR_LOST_CONNECTION_TO_CLIENT).
bool started_by_slurm_pmix();

/// Ends this process's part in PMIx while MPI goes on, so that the plugin no longer minds how it ends. MPI
/// must know all ranks' addresses by then (mpi_add_procs_cutoff), and can neither be finalised nor abort
/// other ranks after it. False when there is no PMIx library that can be asked; then all is as before.
bool leave_pmix();

}  // namespace fastserve::mpi
