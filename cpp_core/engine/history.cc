#include "engine/engine.h"
#include "engine/engine_internal.h"

namespace flint {

// What happened so far is brought to the segments first; the rest is reading files, so it goes on
// when the log can no longer be written.
Status Engine::History(const HistoryQuery& query, HistoryPage* page) {
  FLINT_RETURN_IF_ERROR(CheckReadable());
  const Running running(this);
  if (read_only_) return ReadHistory(options_.env, directory_, query, page);
  if (log_ == nullptr) return Status(Code::kUnsupported, "in memory no history is kept");
  Status status = log_->Flush();
  if (!status.ok() && status.code() != Code::kPoisoned) return status;
  return ReadHistory(options_.env, directory_, query, page);
}

}  // namespace flint
