#include "storage/segment_naming.h"

#include <algorithm>
#include <cerrno>
#include <set>

#include "storage/file_names.h"

namespace flint {
namespace {

// For a segment whose rotated name another file has: with one more zero in front.
std::string AnotherNameFor(std::string rotated_name) {
  return rotated_name.insert(std::string(kLogName).size() + 1, "0");
}

// What may be removed or named over.
std::vector<std::string> Explained(const LogPath& path) {
  std::vector<std::string> names = path.unusable;
  for (const LogPath::Copy& copy : path.copies) names.push_back(copy.name);
  for (const auto& reader : path.superseded) names.push_back(reader->name());
  // One with a rotated segment's name has been written to: its START is damaged.
  for (const auto& reader : path.unstarted) {
    if (!IsRotatedName(reader->name())) names.push_back(reader->name());
  }
  return names;
}

class Naming {
 public:
  Naming(Env* env, const std::string& directory, LogPath* path)
      : env_(env), directory_(directory), path_(path) {
    for (auto* readers : {&path->unreachable, &path->history, &path->segments}) {
      for (auto& reader : *readers) older_.push_back(reader.get());
    }
    newest_ = older_.back();
    older_.pop_back();
  }

  Status Run() {
    AdoptCopies();
    if (AllHaveTheirs()) return Status();
    std::vector<std::string> names;
    FLINT_RETURN_IF_ERROR(env_->List(directory_, &names));
    taken_.insert(names.begin(), names.end());
    for (const std::string& name : Explained(*path_)) explained_.insert(name);
    FLINT_RETURN_IF_ERROR(MoveOlder());
    if (newest_->name() != kLogName) {
      FLINT_RETURN_IF_ERROR(Rename(newest_, kLogName));
      FLINT_RETURN_IF_ERROR(MoveOlder());
    }
    return Status();
  }

 private:
  static std::string WantedBy(const SegmentReader& reader) {
    return RotatedSegmentName(reader.first_sequence());
  }
  bool AllHaveTheirs() const {
    return newest_->name() == kLogName &&
           std::all_of(older_.begin(), older_.end(), [](const SegmentReader* reader) {
             return reader->name() == WantedBy(*reader);
           });
  }

  // A segment that has its right name as well needs no other.
  void AdoptCopies() {
    const auto adopt = [this](SegmentReader* reader, const std::string& wanted) {
      if (reader->name() == wanted) return;
      for (LogPath::Copy& copy : path_->copies) {
        if (!copy.whole || copy.name != wanted || copy.generation != reader->header().generation) {
          continue;
        }
        copy.name = reader->name();
        reader->set_name(wanted);
      }
    };
    adopt(newest_, kLogName);
    for (SegmentReader* reader : older_) adopt(reader, WantedBy(*reader));
  }

  // As many as can be; those that stand in another's way give their names up for the time being.
  Status MoveOlder() {
    for (bool moved = true; moved;) {
      moved = false;
      for (SegmentReader* reader : older_) {
        const std::string wanted = WantedBy(*reader);
        if (reader->name() == wanted) continue;
        if (!taken_.contains(wanted) || explained_.contains(wanted)) {
          FLINT_RETURN_IF_ERROR(Move(reader, wanted));
        } else if (IsInTheWay(*reader)) {
          FLINT_RETURN_IF_ERROR(Move(reader, FreeName(wanted)));
        } else {
          continue;
        }
        moved = true;
      }
    }
    return Status();
  }

  bool IsInTheWay(const SegmentReader& reader) const {
    if (!IsRotatedName(reader.name())) return true;
    return std::any_of(older_.begin(), older_.end(), [&](const SegmentReader* other) {
      return other != &reader && WantedBy(*other) == reader.name();
    });
  }

  std::string FreeName(std::string name) const {
    do {
      name = AnotherNameFor(name);
    } while (taken_.contains(name));
    return name;
  }

  Status Move(SegmentReader* reader, const std::string& to) {
    if (reader->name() != kLogName) return Rename(reader, to);
    FLINT_RETURN_IF_ERROR(Remove(to));
    FLINT_RETURN_IF_ERROR(LeaveLogName(env_, directory_, to));
    FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
    explained_.insert(kLogName);
    taken_.insert(to);
    reader->set_name(to);
    return Status();
  }

  Status Rename(SegmentReader* reader, const std::string& to) {
    FLINT_RETURN_IF_ERROR(env_->Rename(directory_ + "/" + reader->name(), directory_ + "/" + to));
    FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
    taken_.erase(reader->name());
    taken_.insert(to);
    Forget(to);
    reader->set_name(to);
    return Status();
  }

  Status Remove(const std::string& name) {
    if (!taken_.contains(name)) return Status();
    FLINT_RETURN_IF_ERROR(env_->Remove(directory_ + "/" + name));
    FLINT_RETURN_IF_ERROR(env_->SyncDirectory(directory_));
    Forget(name);
    return Status();
  }

  // The file that had this name is gone.
  void Forget(const std::string& name) {
    explained_.erase(name);
    std::erase(path_->unusable, name);
    std::erase_if(path_->copies, [&](const LogPath::Copy& copy) { return copy.name == name; });
    for (auto* readers : {&path_->superseded, &path_->unstarted}) {
      std::erase_if(*readers, [&](const auto& reader) { return reader->name() == name; });
    }
  }

  Env* const env_;
  const std::string& directory_;
  LogPath* const path_;
  std::vector<SegmentReader*> older_;
  SegmentReader* newest_;
  std::set<std::string> taken_;
  std::set<std::string> explained_;
};

}  // namespace

bool CannotLink(const Status& status) {
  const int error = status.detail() == nullptr ? 0 : status.detail()->system_errno;
  return error == EPERM || error == EOPNOTSUPP || error == ENOSYS || error == EMLINK;
}

Status ChooseRotatedName(Env* env, const std::string& directory, uint64_t first_sequence,
                         std::string* name) {
  const std::string prefix = directory + "/";
  std::string free = RotatedSegmentName(first_sequence);
  bool taken = false;
  FLINT_RETURN_IF_ERROR(env->Exists(prefix + free, &taken));
  while (taken) {
    free = AnotherNameFor(free);
    FLINT_RETURN_IF_ERROR(env->Exists(prefix + free, &taken));
  }
  *name = std::move(free);
  return Status();
}

Status LeaveLogName(Env* env, const std::string& directory, const std::string& to) {
  const std::string log_path = directory + "/" + kLogName;
  const Status status = env->Link(log_path, directory + "/" + to);
  return CannotLink(status) ? env->Rename(log_path, directory + "/" + to) : status;
}

Status TakeLogName(Env* env, const std::string& directory, uint64_t first_sequence,
                   std::string* rotated_name) {
  FLINT_RETURN_IF_ERROR(ChooseRotatedName(env, directory, first_sequence, rotated_name));
  FLINT_RETURN_IF_ERROR(LeaveLogName(env, directory, *rotated_name));
  FLINT_RETURN_IF_ERROR(env->SyncDirectory(directory));
  FLINT_RETURN_IF_ERROR(env->Rename(directory + "/" + kNextName, directory + "/" + kLogName));
  return env->SyncDirectory(directory);
}

Status NameSegments(Env* env, const std::string& directory, LogPath* path) {
  return Naming(env, directory, path).Run();
}

Status RemoveExplained(Env* env, const std::string& directory, const LogPath& path) {
  const std::vector<std::string> names = Explained(path);
  if (names.empty()) return Status();
  const std::string prefix = directory + "/";
  for (const std::string& name : names) {
    FLINT_RETURN_IF_ERROR(env->Remove(prefix + name));
  }
  return env->SyncDirectory(directory);
}

}  // namespace flint
