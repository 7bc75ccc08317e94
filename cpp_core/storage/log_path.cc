#include "storage/log_path.h"

#include <algorithm>

#include "storage/file_names.h"

namespace flint {
namespace {

using Readers = std::vector<std::unique_ptr<SegmentReader>>;

// Flint 0.1 and 0.2 wrote JSON lines; both name their log flint.aof.
Status ExplainForeignLog(Env* env, const std::string& directory, const Status& status) {
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env->OpenFile(directory + "/" + kLogName, OpenMode::kRead, &file));
  char first = 0;
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(file->Read(0, &first, 1, &got));
  if (got == 1 && first == '{') {
    return Status(Code::kUnsupported,
                  directory + ": written by Flint 0.1 or 0.2; opening it for writing converts it");
  }
  return status;
}

struct FoundSegments {
  Readers readers;                // by number, oldest first
  std::vector<uint64_t> numbers;  // theirs, also of those that have been taken out
  bool has_log_name = false;
};

Status OpenAll(Env* env, const std::string& directory, bool rotated_only, LogPath* path,
               FoundSegments* found) {
  std::vector<std::string> names;
  FLINT_RETURN_IF_ERROR(env->List(directory, &names));
  for (const std::string& name : names) {
    if (!IsSegmentName(name) || (rotated_only && !IsRotatedName(name))) continue;
    std::unique_ptr<SegmentReader> reader;
    const Status status = SegmentReader::Open(env, directory, name, &reader);
    if (status.code() == Code::kCorruption && (name == kNextName || name == kNewName)) {
      path->unusable.push_back(name);  // its header was never synced, so it was never used
      continue;
    }
    if (status.code() == Code::kCorruption && name == kLogName) {
      return ExplainForeignLog(env, directory, status);
    }
    if (status.code() == Code::kCorruption) {
      path->damaged.push_back(name);
      continue;
    }
    FLINT_RETURN_IF_ERROR(status);
    if (name == kLogName) found->has_log_name = true;
    found->readers.push_back(std::move(reader));
  }
  return Status();
}

// ---- Two names for one segment -----------------------------------------------------------------

// Where a segment's records end, or the first that ends at `until` or behind it.
struct ChainEnd {
  uint64_t position = 0;
  uint32_t crc = 0;
  bool rest = false;  // something other than zeros follows
};

Status FindChainEnd(SegmentReader* reader, uint64_t until, ChainEnd* end) {
  const uint64_t generation = reader->header().generation;
  uint64_t sequence = reader->first_sequence();
  *end = ChainEnd{reader->start().position, ChainStart(generation)};
  std::string_view bytes;
  while (end->position < until) {
    FLINT_RETURN_IF_ERROR(reader->Bytes(end->position, &bytes));
    Record record;
    if (!ParseRecord(bytes, end->crc, generation, sequence++, end->position, &record)) break;
    end->position = record.end();
    end->crc = record.crc;
  }
  FLINT_RETURN_IF_ERROR(reader->Bytes(end->position, &bytes));
  end->rest = bytes.find_first_not_of('\0') != std::string_view::npos;
  reader->LetGo();
  return Status();
}

Status TwoSegmentsClaimOnePlace(const SegmentReader& a, const SegmentReader& b) {
  return Status(Code::kCorruption,
                a.name() + " and " + b.name() + " both say that they are log segment number " +
                    std::to_string(a.header().number) + ", but do not tell the same")
      .At(a.name(), 0, a.first_sequence());
}

// Which of two files with one segment's header is to be read: the one that tells more. The other
// must tell the beginning of the same and nothing else.
Status Choose(SegmentReader* a, SegmentReader* b, bool* take_b, bool* whole) {
  ChainEnd end_a;
  ChainEnd end_b;
  FLINT_RETURN_IF_ERROR(FindChainEnd(a, UINT64_MAX, &end_a));
  FLINT_RETURN_IF_ERROR(FindChainEnd(b, UINT64_MAX, &end_b));
  *take_b = end_b.position > end_a.position;
  *whole = end_a.position == end_b.position;
  const ChainEnd& shorter = *take_b ? end_a : end_b;
  ChainEnd same;
  FLINT_RETURN_IF_ERROR(FindChainEnd(*take_b ? b : a, shorter.position, &same));
  const bool agree = same.position == shorter.position && same.crc == shorter.crc;
  if (agree && (*whole || !shorter.rest)) return Status();
  return TwoSegmentsClaimOnePlace(*a, *b);
}

// A crash between linking and renaming leaves two names for one segment, and people make copies.
Status DropCopies(FoundSegments* found, LogPath* path) {
  Readers readers = std::move(found->readers);
  found->readers.clear();
  const auto final_name = [](const SegmentReader& reader) {
    return reader.name() == RotatedSegmentName(reader.first_sequence());
  };
  std::stable_sort(readers.begin(), readers.end(), [&](const auto& a, const auto& b) {
    if (a->header().number != b->header().number) return a->header().number < b->header().number;
    if (a->header().generation != b->header().generation) {
      return a->header().generation < b->header().generation;
    }
    return final_name(*a) && !final_name(*b);
  });
  for (auto& reader : readers) {
    SegmentReader* const before = found->readers.empty() ? nullptr : found->readers.back().get();
    if (before == nullptr || before->header().number != reader->header().number ||
        before->header().generation != reader->header().generation) {
      found->readers.push_back(std::move(reader));
      continue;
    }
    bool take = false;
    bool whole = true;
    if (before->started() != reader->started()) {
      take = reader->started();
      whole = false;
    } else if (before->started()) {
      FLINT_RETURN_IF_ERROR(Choose(before, reader.get(), &take, &whole));
    }
    if (take) std::swap(found->readers.back(), reader);
    path->copies.push_back({reader->name(), reader->header().generation, whole});
  }
  for (const auto& reader : found->readers) found->numbers.push_back(reader->header().number);
  return Status();
}

// ---- The path ----------------------------------------------------------------------------------

Status CheckIdentity(const FoundSegments& found, const Covered& covered, LogPath* path) {
  if (covered.present) path->directory_id = covered.directory_id;
  if (!covered.present && !found.readers.empty()) {
    path->directory_id = found.readers.front()->header().directory_id;
  }
  for (const auto& reader : found.readers) {
    if (reader->header().directory_id != path->directory_id) {
      return Status(Code::kCorruption, reader->name() + ": belongs to another data directory")
          .At(reader->name(), 0, 0);
    }
    path->last_number = std::max(path->last_number, reader->header().number);
    path->last_epoch = std::max(path->last_epoch, reader->header().epoch);
  }
  return Status();
}

// Moves the segment that START names out of `found`; null when it is not there.
std::unique_ptr<SegmentReader> TakePrevious(const SegmentReader& reader, FoundSegments* found) {
  const StartPayload& start = reader.start();
  const std::vector<uint64_t>& numbers = found->numbers;
  auto at = std::lower_bound(numbers.begin(), numbers.end(), start.previous_segment);
  for (; at != numbers.end() && *at == start.previous_segment; ++at) {
    auto& candidate = found->readers[static_cast<size_t>(at - numbers.begin())];
    if (candidate != nullptr && candidate->started() &&
        candidate->header().generation == start.previous_generation) {
      return std::move(candidate);
    }
  }
  return nullptr;
}

Status CheckJoin(const SegmentReader& first, const Covered& covered) {
  if (!covered.present || first.start().position != covered.position ||
      (first.start().previous_crc == covered.crc &&
       first.first_sequence() == covered.sequence + 1)) {
    return Status();
  }
  return Status(Code::kCorruption, first.name() + ": the snapshot was made from another log")
      .At(first.name(), kSegmentHeaderBytes, first.first_sequence());
}

Status MissingLog(const std::string& directory, const char* how) {
  return Status(Code::kCorruption, directory + ": the log segment flint.aof is missing" + how)
      .At(kLogName, 0, 0);
}

// Where there is no flint.aof, a rotation or a repair of names must have been interrupted: else it
// was the newest segment that had that name.
Status CheckNewestIsThere(const std::string& directory, const SegmentReader& newest,
                          const FoundSegments& found) {
  if (found.has_log_name || newest.name() != RotatedSegmentName(newest.first_sequence())) {
    return Status();
  }
  const bool interrupted =
      std::any_of(found.readers.begin(), found.readers.end(), [&](const auto& reader) {
        return reader != nullptr && !reader->started() && reader->name() == kNextName &&
               reader->header().number == newest.header().number + 1;
      });
  return interrupted ? Status() : MissingLog(directory, "");
}

// From the newest segment back to the one in which the snapshot ends.
Status TakeSegments(const std::string& directory, const Covered& covered, FoundSegments* found,
                    LogPath* path) {
  Readers& segments = path->segments;  // newest first, until all are there
  while (true) {
    const SegmentReader& oldest = *segments.back();
    const StartPayload& start = oldest.start();
    if (start.previous_segment == 0 || start.position <= covered.position) break;
    std::unique_ptr<SegmentReader> previous = TakePrevious(oldest, found);
    if (previous == nullptr) {
      return Status(Code::kCorruption,
                    directory + ": log segment number " + std::to_string(start.previous_segment) +
                        (covered.present ? " is missing or damaged"
                                         : " or the snapshot is missing or damaged"))
          .At(oldest.name(), 0, oldest.first_sequence());
    }
    segments.push_back(std::move(previous));
  }
  std::reverse(segments.begin(), segments.end());
  return CheckJoin(*segments.front(), covered);
}

void TakeHistory(FoundSegments* found, LogPath* path) {
  for (const SegmentReader* oldest = path->segments.front().get(); oldest != nullptr;) {
    std::unique_ptr<SegmentReader> previous = TakePrevious(*oldest, found);
    oldest = previous.get();
    if (previous != nullptr) path->history.push_back(std::move(previous));
  }
  std::reverse(path->history.begin(), path->history.end());
}

// An opening of an earlier Flint wrote again what no seal covered, and the segment it had begun
// with may still be there.
bool IsSuperseded(const SegmentReader& reader, const LogPath& path) {
  const auto tells_it_again = [&reader](const auto& later) {
    return later->header().number > reader.header().number &&
           later->start().position <= reader.start().position;
  };
  return std::any_of(path.segments.begin(), path.segments.end(), tells_it_again) ||
         std::any_of(path.history.begin(), path.history.end(), tells_it_again);
}

void SortTheRest(Readers* readers, LogPath* path) {
  for (auto& reader : *readers) {
    if (reader == nullptr) continue;
    if (!reader->started()) {
      path->unstarted.push_back(std::move(reader));
    } else if (IsSuperseded(*reader, *path)) {
      path->superseded.push_back(std::move(reader));
    } else {
      path->unreachable.push_back(std::move(reader));
    }
  }
}

}  // namespace

Status FindLogPath(Env* env, const std::string& directory, const Covered& covered,
                   uint64_t last_segment, LogPath* path) {
  FoundSegments found;
  const bool rotated_only = last_segment != UINT64_MAX;
  path->bounded = rotated_only;
  FLINT_RETURN_IF_ERROR(OpenAll(env, directory, rotated_only, path, &found));
  FLINT_RETURN_IF_ERROR(DropCopies(&found, path));
  FLINT_RETURN_IF_ERROR(CheckIdentity(found, covered, path));
  Readers& readers = found.readers;
  const auto newest = std::find_if(readers.rbegin(), readers.rend(), [&](const auto& reader) {
    return reader->started() && reader->header().number <= last_segment;
  });
  if (newest == readers.rend()) {
    if (covered.present || found.has_log_name) return MissingLog(directory, " or empty");
    path->unstarted = std::move(readers);
    return Status();
  }
  if (!rotated_only) FLINT_RETURN_IF_ERROR(CheckNewestIsThere(directory, **newest, found));
  path->segments.push_back(std::move(*newest));
  FLINT_RETURN_IF_ERROR(TakeSegments(directory, covered, &found, path));
  TakeHistory(&found, path);
  SortTheRest(&readers, path);
  return Status();
}

}  // namespace flint
