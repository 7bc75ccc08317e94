#include "storage/segment.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/coding.h"
#include "base/crc32c.h"
#include "storage/file_names.h"

namespace flint {
namespace {

constexpr size_t kCheckedBytes = 112;
// What the magic of every format begins with. All of them have the same first 116 bytes.
constexpr std::string_view kAnyMagic = "flint log ";
constexpr size_t kWindowBytes = size_t{1} << 20;

}  // namespace

std::string EncodeSegmentHeader(const SegmentHeader& header) {
  std::string to(kSegmentMagic, kMagicBytes);
  Put32(&to, kFormatVersion);
  Put32(&to, kSegmentHeaderBytes);
  Put64(&to, header.features.compatible);
  Put64(&to, header.features.read_only_compatible);
  Put64(&to, header.features.incompatible);
  PutBytes(&to, header.directory_id.data(), header.directory_id.size());
  Put64(&to, header.number);
  Put64(&to, header.epoch);
  Put64(&to, header.generation);
  Put64(&to, header.capacity);
  Put32(&to, ExtendCrc32c(0, to.data(), to.size()));
  to.resize(kSegmentHeaderBytes);
  return to;
}

Status DecodeSegmentHeader(std::string_view bytes, const std::string& name, SegmentHeader* header) {
  const auto damaged = [&](const std::string& what) {
    return Status(Code::kCorruption, name + ": " + what).At(name, 0, 0);
  };
  if (bytes.size() < kSegmentHeaderBytes) return damaged("the segment header is cut short");
  const bool own_magic = std::memcmp(bytes.data(), kSegmentMagic, kMagicBytes) == 0;
  if (!own_magic && !bytes.starts_with(kAnyMagic)) {
    return damaged("this is not a log segment of this version of Flint");
  }
  ByteReader reader(bytes.substr(kMagicBytes));
  uint32_t version = 0;
  uint32_t header_bytes = 0;
  Features& features = header->features;
  uint32_t crc = 0;
  const bool complete =
      reader.GetU32(&version) && reader.GetU32(&header_bytes) &&
      reader.GetU64(&features.compatible) && reader.GetU64(&features.read_only_compatible) &&
      reader.GetU64(&features.incompatible) &&
      reader.CopyBytes(header->directory_id.size(), header->directory_id.data()) &&
      reader.GetU64(&header->number) && reader.GetU64(&header->epoch) &&
      reader.GetU64(&header->generation) && reader.GetU64(&header->capacity) && reader.GetU32(&crc);
  if (!complete || crc != ExtendCrc32c(0, bytes.data(), kCheckedBytes)) {
    return damaged("the segment header is damaged");
  }
  if (version != kFormatVersion) {
    return Newer(name, "format " + std::to_string(version)).At(name, 0, 0);
  }
  if (!own_magic) return damaged("the segment header is damaged");
  FLINT_RETURN_IF_ERROR(CheckReadable(features, name));
  if (header_bytes != kSegmentHeaderBytes || header->generation == 0 || header->number == 0) {
    return damaged("the segment header is damaged");
  }
  return Status();
}

Status CreateSegment(Env* env, const std::string& directory, const std::string& name,
                     const SegmentHeader& header, bool write_zeros, std::unique_ptr<File>* file) {
  const std::string path = directory + "/" + name;
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(path, &exists));
  if (exists) FLINT_RETURN_IF_ERROR(env->Remove(path));
  FLINT_RETURN_IF_ERROR(env->OpenFile(path, OpenMode::kCreate, file));
  const auto fill = [&]() -> Status {
    FLINT_RETURN_IF_ERROR((*file)->Reserve(header.capacity, write_zeros));
    // Where the file system cannot reserve, a power loss may leave anything in the blocks: not
    // behind a valid header.
    FLINT_RETURN_IF_ERROR((*file)->SyncData());
    const std::string bytes = EncodeSegmentHeader(header);
    FLINT_RETURN_IF_ERROR((*file)->Write(0, bytes.data(), bytes.size()));
    FLINT_RETURN_IF_ERROR((*file)->Sync());
    return env->SyncDirectory(directory);
  };
  const Status status = fill();
  if (!status.ok()) {
    file->reset();
    // The first error is the one to report; a file left behind is a spare without START.
    if (!env->Remove(path).ok()) return status;
  }
  return status;
}

Status SegmentReader::ReadHeader(SegmentHeader* header) {
  std::string bytes(kSegmentHeaderBytes, '\0');
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(file_->Read(0, bytes.data(), bytes.size(), &got));
  bytes.resize(got);
  FLINT_RETURN_IF_ERROR(DecodeSegmentHeader(bytes, name_, header));
  return file_->Size(&file_bytes_);
}

Status SegmentReader::Open(Env* env, const std::string& directory, const std::string& name,
                           std::unique_ptr<SegmentReader>* reader) {
  std::unique_ptr<SegmentReader> made(new SegmentReader(env, directory, name));
  FLINT_RETURN_IF_ERROR(env->OpenFile(directory + "/" + name, OpenMode::kRead, &made->file_));
  FLINT_RETURN_IF_ERROR(made->ReadHeader(&made->header_));
  FLINT_RETURN_IF_ERROR(made->ReadStart());
  made->LetGo();
  *reader = std::move(made);
  return Status();
}

void SegmentReader::LetGo() {
  file_.reset();
  window_.reset();
}

// `*same` is false when another segment has the name by now.
Status SegmentReader::OpenAs(const std::string& name, bool* same) {
  FLINT_RETURN_IF_ERROR(env_->OpenFile(directory_ + "/" + name, OpenMode::kRead, &file_));
  SegmentHeader header;
  const Status status = ReadHeader(&header);
  *same = status.ok() && header.generation == header_.generation;
  if (*same) name_ = name;
  if (!*same) file_.reset();
  return status;
}

// A rotation may have renamed it, twice even, since it was last open.
Status SegmentReader::Reopen() {
  if (file_ != nullptr) return Status();
  bool same = false;
  Status first = OpenAs(name_, &same);
  if (same) return Status();
  for (const std::string& name : {std::string(kLogName), RotatedSegmentName(first_sequence_)}) {
    const Status status = OpenAs(name, &same);
    if (same) return Status();
    // Whatever else is wrong with that file, it is not the one that was asked for.
    static_cast<void>(status);
  }
  if (!first.ok()) return first;
  return Status::FromErrno(ENOENT, directory_ + "/" + name_ + " has been replaced");
}

// START's own sequence number is only known from the record itself, so it is read unchecked
// first; the chain's seed, the generation, makes a stale one fail.
Status SegmentReader::ReadStart() {
  std::string bytes;
  start_.position = 0;
  FLINT_RETURN_IF_ERROR(Read(0, kStartBytes, &bytes));
  if (bytes.size() < kStartBytes) return Status();
  const uint64_t sequence = Decode64(bytes.data() + 8);
  Record record;
  StartPayload start;
  if (ParseRecord(bytes, ChainStart(header_.generation), header_.generation, sequence, 0,
                  &record) &&
      record.type == RecordType::kStart && Decode(record.payload, &start)) {
    started_ = true;
    start_ = start;
    first_sequence_ = sequence;
  }
  return Status();
}

Status SegmentReader::Read(uint64_t position, size_t size, std::string* bytes) {
  FLINT_RETURN_IF_ERROR(Reopen());
  const uint64_t offset = OffsetOf(position);
  bytes->resize(std::min<uint64_t>(size, file_bytes_ - std::min(offset, file_bytes_)));
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(file_->Read(offset, bytes->data(), bytes->size(), &got));
  bytes->resize(got);
  return Status();
}

Status SegmentReader::Bytes(uint64_t position, std::string_view* bytes) {
  FLINT_RETURN_IF_ERROR(Reopen());
  const uint64_t offset = OffsetOf(position);
  const uint64_t left = file_bytes_ - std::min(offset, file_bytes_);
  const uint64_t wanted = std::min<uint64_t>(kMaxRecordBytes, left);
  const bool inside = window_ != nullptr && offset >= window_offset_ &&
                      offset + wanted <= window_offset_ + window_bytes_;
  if (!inside) {
    if (window_ == nullptr) window_ = std::make_unique_for_overwrite<char[]>(kWindowBytes);
    window_bytes_ = 0;  // if reading fails there is none
    size_t got = 0;
    FLINT_RETURN_IF_ERROR(
        file_->Read(offset, window_.get(), std::min<uint64_t>(kWindowBytes, left), &got));
    window_offset_ = offset;
    window_bytes_ = got;
  }
  *bytes = std::string_view(window_.get(), window_bytes_).substr(offset - window_offset_);
  return Status();
}

Status SegmentReader::Newer(const Record& record, const std::string& what) const {
  const uint64_t offset = OffsetOf(record.position);
  return flint::Newer(name_ + " at offset " + std::to_string(offset) + ", record " +
                          std::to_string(record.sequence),
                      what)
      .At(name_, offset, record.sequence);
}

}  // namespace flint
