#include "engine/doctor.h"

#include "engine/reading.h"

namespace flint {
namespace {

Status ExamineOnce(Env* env, const Clock* clock, const std::string& directory,
                   DoctorReport* report) {
  *report = DoctorReport();
  FLINT_RETURN_IF_ERROR(env->Mode(directory, &report->directory_mode));
  Keyspace keyspace;
  FLINT_RETURN_IF_ERROR(keyspace.DrawHashSecret(env));
  Reading reading(env, clock, directory);
  const Status status = reading.Load(&keyspace);
  report->snapshot_exists = reading.snapshot_exists();
  report->snapshot_bytes = reading.snapshot_bytes();
  report->limits = keyspace.limits();
  report->counters = keyspace.counters();
  FLINT_RETURN_IF_ERROR(status);
  FLINT_RETURN_IF_ERROR(reading.CheckHasLog(false));
  report->records = reading.report().records;
  report->ring_records = reading.report().ring_records;
  report->torn_bytes = reading.report().torn_bytes;
  return VerifySegments(env, directory, reading.head().covered, &report->log);
}

}  // namespace

Status Examine(Env* env, const Clock* clock, const std::string& directory, DoctorReport* report) {
  return UntilItStays([&] { return ExamineOnce(env, clock, directory, report); });
}

}  // namespace flint
