#include "engine/legacy.h"

#include <memory>
#include <utility>
#include <vector>

#include "engine/legacy_reader.h"
#include "engine/legacy_writer.h"
#include "storage/file_names.h"
#include "storage/segment.h"
#include "storage/segment_naming.h"

namespace flint {
namespace {

constexpr size_t kSnapshotStartBytes = 4096;

// What a directory holds under the names that both formats use.
struct FoundFiles {
  std::unique_ptr<File> log;
  std::unique_ptr<File> snapshot;
  uint64_t log_bytes = 0;
  char first = 0;               // byte of the log
  bool snapshot_today = false;  // in today's format
  bool others = false;          // other files that only today's format has
};

Status OpenIfExists(Env* env, const std::string& path, std::unique_ptr<File>* file) {
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(path, &exists));
  return exists ? env->OpenFile(path, OpenMode::kRead, file) : Status();
}

Status Look(Env* env, const std::string& directory, FoundFiles* found) {
  FLINT_RETURN_IF_ERROR(OpenIfExists(env, directory + "/" + kLogName, &found->log));
  FLINT_RETURN_IF_ERROR(OpenIfExists(env, directory + "/" + kSnapshotName, &found->snapshot));
  size_t got = 0;
  if (found->log != nullptr) {
    FLINT_RETURN_IF_ERROR(found->log->Size(&found->log_bytes));
    FLINT_RETURN_IF_ERROR(found->log->Read(0, &found->first, 1, &got));
  }
  if (found->snapshot != nullptr) {
    std::string start(kSnapshotStartBytes, '\0');
    FLINT_RETURN_IF_ERROR(found->snapshot->Read(0, start.data(), start.size(), &got));
    start.resize(got);
    found->snapshot_today = start.find("\"directory_id\":\"") != std::string::npos;
  }
  std::vector<std::string> names;
  FLINT_RETURN_IF_ERROR(env->List(directory, &names));
  for (const std::string& name : names) {
    if (name == kRingName || (IsSegmentName(name) && name != kLogName)) found->others = true;
  }
  return Status();
}

// A log that begins with a brace is one of those versions'. An empty or zeroed one may be (a crash
// leaves it), but also today's that was damaged, so nothing else of today's may be there.
bool IsLegacy(const FoundFiles& found) {
  if (found.log != nullptr && found.first == '{') return true;
  const bool no_log = found.log == nullptr || found.log_bytes == 0 || found.first == '\0';
  return no_log && !found.others && !found.snapshot_today &&
         (found.log != nullptr || found.snapshot != nullptr);
}

// A conversion that was interrupted behind its commit has left the old snapshot under both names.
Status RemoveKeptSnapshot(Env* env, const std::string& directory, const FoundFiles& found) {
  if (found.snapshot == nullptr || found.snapshot_today) return Status();
  std::unique_ptr<File> kept;
  FLINT_RETURN_IF_ERROR(OpenIfExists(env, directory + "/" + kOldSnapshotName, &kept));
  if (kept == nullptr) return Status();
  uint64_t bytes = 0;
  uint64_t kept_bytes = 0;
  FLINT_RETURN_IF_ERROR(found.snapshot->Size(&bytes));
  FLINT_RETURN_IF_ERROR(kept->Size(&kept_bytes));
  if (bytes != kept_bytes) return Status();
  std::string here(bytes, '\0');
  std::string there(bytes, '\0');
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(found.snapshot->Read(0, here.data(), bytes, &got));
  FLINT_RETURN_IF_ERROR(kept->Read(0, there.data(), bytes, &got));
  if (here != there) return Status();
  FLINT_RETURN_IF_ERROR(env->Remove(directory + "/" + kSnapshotName));
  return env->SyncDirectory(directory);
}

bool CannotBeToday(const LegacyItem& item) {
  return item.key.size() > UINT16_MAX || (item.key.empty() && item.kind != LimitKind::kTemplate);
}

Status Write(Env* env, const std::string& directory, FoundFiles* found, LegacyReport* report) {
  SegmentHeader header;
  header.number = 1;
  header.epoch = 1;
  FLINT_RETURN_IF_ERROR(env->Random(&header.generation, sizeof(header.generation)));
  header.generation |= 1;
  FLINT_RETURN_IF_ERROR(env->Random(header.directory_id.data(), header.directory_id.size()));
  header.capacity = kSegmentHeaderBytes;  // it is never appended to
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(CreateSegment(env, directory, kImportName, header, false, &file));
  const auto writer = std::make_unique<LegacyWriter>(header, std::move(file));
  FLINT_RETURN_IF_ERROR(writer->Begin(env));
  LegacyFindings findings;
  const LegacyEventSink sink = [&](LegacyEvent event) {
    findings.left_out += std::erase_if(event.items, CannotBeToday);
    return event.items.empty() ? Status() : writer->Add(std::move(event), &findings);
  };
  uint64_t from = 0;
  if (found->snapshot != nullptr) {
    FLINT_RETURN_IF_ERROR(ReadLegacySnapshot(found->snapshot.get(), sink, &from, &findings));
  }
  if (from > found->log_bytes) {
    report->snapshot_ahead = true;
    from = 0;
  }
  if (found->log != nullptr) {
    FLINT_RETURN_IF_ERROR(ReadLegacyLog(found->log.get(), from, sink, &findings));
  }
  FLINT_RETURN_IF_ERROR(writer->Finish());
  report->converted = true;
  report->events = writer->events();
  report->torn_bytes = findings.torn_bytes;
  report->clamped = findings.clamped;
  report->left_out = findings.left_out;
  return Status();
}

Status Copy(Env* env, const std::string& from, const std::string& to) {
  constexpr size_t kPieceBytes = size_t{1} << 20;
  std::unique_ptr<File> source;
  std::unique_ptr<File> copy;
  FLINT_RETURN_IF_ERROR(env->OpenFile(from, OpenMode::kRead, &source));
  FLINT_RETURN_IF_ERROR(env->OpenFile(to, OpenMode::kCreate, &copy));
  std::string piece(kPieceBytes, '\0');
  for (uint64_t at = 0;;) {
    size_t got = 0;
    FLINT_RETURN_IF_ERROR(source->Read(at, piece.data(), piece.size(), &got));
    if (got == 0) return copy->Sync();
    FLINT_RETURN_IF_ERROR(copy->Write(at, piece.data(), got));
    at += got;
  }
}

// A second name for a file, which outlives the first; where there are no links, a copy.
Status KeepUnder(Env* env, const std::string& directory, const char* name, const char* kept) {
  const std::string from = directory + "/" + name;
  const std::string to = directory + "/" + kept;
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(to, &exists));
  if (exists) FLINT_RETURN_IF_ERROR(env->Remove(to));
  const Status status = env->Link(from, to);
  return CannotLink(status) ? Copy(env, from, to) : status;
}

}  // namespace

Status ConvertLegacy(Env* env, const std::string& directory, LegacyReport* report) {
  FoundFiles found;
  FLINT_RETURN_IF_ERROR(Look(env, directory, &found));
  if (!IsLegacy(found)) return RemoveKeptSnapshot(env, directory, found);
  if (found.snapshot_today || found.others) {
    return LegacyDamage(kLogName, 0, "files of today's format lie beside it");
  }
  FLINT_RETURN_IF_ERROR(Write(env, directory, &found, report));
  if (found.log != nullptr) {
    FLINT_RETURN_IF_ERROR(KeepUnder(env, directory, kLogName, kOldLogName));
  }
  if (found.snapshot != nullptr) {
    FLINT_RETURN_IF_ERROR(KeepUnder(env, directory, kSnapshotName, kOldSnapshotName));
  }
  FLINT_RETURN_IF_ERROR(env->SyncDirectory(directory));
  FLINT_RETURN_IF_ERROR(env->Rename(directory + "/" + kImportName, directory + "/" + kLogName));
  FLINT_RETURN_IF_ERROR(env->SyncDirectory(directory));
  if (found.snapshot == nullptr) return Status();
  FLINT_RETURN_IF_ERROR(env->Remove(directory + "/" + kSnapshotName));
  return env->SyncDirectory(directory);
}

}  // namespace flint
