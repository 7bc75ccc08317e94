#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/env.h"
#include "base/status.h"
#include "storage/known.h"
#include "storage/record.h"

namespace flint {

// A directory's own id, in the header of each of its files.
using DirectoryId = std::array<uint8_t, 16>;

struct SegmentHeader {
  DirectoryId directory_id{};
  uint64_t number = 0;
  uint64_t epoch = 0;
  uint64_t generation = 0;
  uint64_t capacity = 0;
  Features features;
};

std::string EncodeSegmentHeader(const SegmentHeader& header);
// kCorruption for damage, kUnsupported for a version or feature that cannot even be read.
Status DecodeSegmentHeader(std::string_view bytes, const std::string& name, SegmentHeader* header);

// Creates the file `name` with its space reserved (`write_zeros`: and written, which makes later
// data syncs cheap) and its header and directory entry on disk.
Status CreateSegment(Env* env, const std::string& directory, const std::string& name,
                     const SegmentHeader& header, bool write_zeros, std::unique_ptr<File>* file);

// Reads a segment's records from its file, whatever it is called. Between two segments' records a
// reader of a log may let the file go: how many segments there are must not decide how many files
// are open. One thread at a time.
class SegmentReader {
 public:
  // Reads and checks the header and looks for START; then the file is closed.
  static Status Open(Env* env, const std::string& directory, const std::string& name,
                     std::unique_ptr<SegmentReader>* reader);

  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }
  const SegmentHeader& header() const { return header_; }
  // Whether a valid START record exists, which gives the segment its place in the stream.
  bool started() const { return started_; }
  const StartPayload& start() const { return start_; }
  uint64_t first_sequence() const { return first_sequence_; }
  uint64_t file_bytes() const { return file_bytes_; }

  // File offset of a position; the segment must be started, or Place must have been called.
  uint64_t OffsetOf(uint64_t position) const {
    return kSegmentHeaderBytes + position - start_.position;
  }
  // kUnsupported at the place of a record of which `what` is not known.
  Status Newer(const Record& record, const std::string& what) const;
  // For a segment whose START is not in the file: the position and sequence number it will have.
  void Place(const StartPayload& start, uint64_t first_sequence) {
    start_ = start;
    first_sequence_ = first_sequence;
  }

  // The bytes from `position` on, up to a whole record's and at most to the end of the file. The
  // view is good until the next call.
  Status Bytes(uint64_t position, std::string_view* bytes);
  // Reads up to `size` bytes from `position`.
  Status Read(uint64_t position, size_t size, std::string* bytes);
  // Closes the file and forgets what was read ahead. The next call opens it again, by whatever name
  // it has come to meanwhile, and finds what has been written since.
  void LetGo();

 private:
  SegmentReader(Env* env, std::string directory, std::string name)
      : env_(env), directory_(std::move(directory)), name_(std::move(name)) {}
  Status ReadHeader(SegmentHeader* header);
  Status ReadStart();
  Status OpenAs(const std::string& name, bool* same);
  Status Reopen();

  Env* const env_;
  const std::string directory_;
  std::string name_;
  std::unique_ptr<File> file_;  // null while it is not read
  SegmentHeader header_;
  bool started_ = false;
  StartPayload start_;
  uint64_t first_sequence_ = 0;
  uint64_t file_bytes_ = 0;
  std::unique_ptr<char[]> window_;
  uint64_t window_offset_ = 0;
  size_t window_bytes_ = 0;
};

}  // namespace flint
