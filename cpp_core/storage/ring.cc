#include "storage/ring.h"

#include <algorithm>
#include <cstring>

#include "base/coding.h"
#include "base/crc32c.h"
#include "storage/file_names.h"

namespace flint {
namespace {

constexpr size_t kCheckedBytes = 64;
constexpr size_t kOwnerOffset = 72;
constexpr size_t kOwnerCrcOffset = 96;

// Without an owner it is what an earlier Flint wrote.
std::string EncodeHeader(const DirectoryId& id, uint64_t data_bytes, const RingOwner& owner) {
  std::string to(kRingMagic);
  to.resize(kMagicBytes);
  Put32(&to, kFormatVersion);
  Put32(&to, kRingHeaderBytes);
  PutBytes(&to, id.data(), id.size());
  Put64(&to, data_bytes);
  Put32(&to, ExtendCrc32c(0, to.data(), kCheckedBytes));
  if (owner.segment != 0) {
    Put32(&to, 0);
    Put64(&to, owner.segment);
    Put64(&to, owner.generation);
    Put64(&to, owner.position);
    Put32(&to, ExtendCrc32c(0, to.data(), kOwnerCrcOffset));
  }
  to.resize(kRingHeaderBytes);
  return to;
}

Status SyncFile(Env* env, const std::string& path) {
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env->OpenFile(path, OpenMode::kReadWrite, &file));
  return file->Sync();
}

}  // namespace

Status Ring::Create(Env* env, const std::string& directory, const DirectoryId& id,
                    const Options& options, std::unique_ptr<Ring>* ring) {
  const uint64_t data_bytes = options.data_bytes;
  std::unique_ptr<StoreFile> store;
  const std::string temporary = directory + "/" + kRingTemporaryName;
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(temporary, &exists));
  if (exists) FLINT_RETURN_IF_ERROR(env->Remove(temporary));
  FLINT_RETURN_IF_ERROR(
      env->OpenStore(temporary, kRingHeaderBytes + data_bytes, options.mode, &store));
  const std::string header = EncodeHeader(id, data_bytes, options.owner);
  store->Store(0, header.data(), header.size());
  const std::string zeros(size_t{1} << 16, '\0');
  for (uint64_t at = 0; at < data_bytes; at += zeros.size()) {
    store->Store(kRingHeaderBytes + at, zeros.data(), std::min(zeros.size(), data_bytes - at));
  }
  if (store->failed()) return Status(Code::kIo, "cannot write " + temporary);
  if (options.sync) FLINT_RETURN_IF_ERROR(SyncFile(env, temporary));
  FLINT_RETURN_IF_ERROR(env->Rename(temporary, directory + "/" + kRingName));
  FLINT_RETURN_IF_ERROR(env->SyncDirectory(directory));
  ring->reset(new Ring(std::move(store), data_bytes));
  return Status();
}

void Ring::Store(uint64_t position, const char* data, uint64_t size) {
  const uint64_t at = position & (data_bytes_ - 1);
  const uint64_t first = std::min(size, data_bytes_ - at);
  store_->Store(kRingHeaderBytes + at, data, first);
  if (first < size) store_->Store(kRingHeaderBytes, data + first, size - first);
}

void Ring::Put(uint64_t position, const char* record, uint32_t length) {
  const uint64_t at = position & (data_bytes_ - 1);
  if (memory_.file != nullptr && length <= data_bytes_ - at) [[likely]] {
    char* const to = memory_.file + kRingHeaderBytes + at;
    char* const copy = memory_.read + kRingHeaderBytes + at;
    std::memcpy(copy, record, length);
    std::memcpy(to + 8, record + 8, length - 8);
    __atomic_store_n(reinterpret_cast<uint64_t*>(to), Decode64(record), __ATOMIC_RELEASE);
    return;
  }
  Store(position + 8, record + 8, length - 8);
  store_->StoreWord(kRingHeaderBytes + at, Decode64(record));
}

void Ring::PutInPieces(uint64_t position, EventRecord record) {
  Put(position, reinterpret_cast<const char*>(record.words), kAllowBytes);
}

std::string_view Ring::Bytes(uint64_t position, uint64_t size) const {
  const uint64_t at = position & (data_bytes_ - 1);
  return {store_->data() + kRingHeaderBytes + at, std::min(size, data_bytes_ - at)};
}

// Without a ring, or one of a size that it cannot have, there are no bytes.
Status RingImage::ReadFile(Env* env, const std::string& directory, std::string* bytes) {
  bytes->clear();
  const std::string path = directory + "/" + kRingName;
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(path, &exists));
  if (!exists) return Status();
  std::unique_ptr<File> file;
  FLINT_RETURN_IF_ERROR(env->OpenFile(path, OpenMode::kRead, &file));
  uint64_t size = 0;
  FLINT_RETURN_IF_ERROR(file->Size(&size));
  if (size <= kRingHeaderBytes || size > (uint64_t{1} << 30)) return Status();
  bytes->resize(size);
  size_t got = 0;
  FLINT_RETURN_IF_ERROR(file->Read(0, bytes->data(), bytes->size(), &got));
  if (got != size) bytes->clear();
  return Status();
}

Status RingImage::Read(Env* env, const std::string& directory, const DirectoryId& id,
                       RingImage* image) {
  *image = RingImage();
  std::string bytes;
  FLINT_RETURN_IF_ERROR(ReadFile(env, directory, &bytes));
  if (bytes.empty()) return Status();
  const char* const at = bytes.data() + kOwnerOffset;
  const RingOwner owner{Decode64(at), Decode64(at + 8), Decode64(at + 16)};
  if (!bytes.starts_with(EncodeHeader(id, bytes.size() - kRingHeaderBytes, owner))) return Status();
  image->owner_ = owner;
  image->data_ = bytes.substr(kRingHeaderBytes);
  return Status();
}

Status RingImage::Used(Env* env, const std::string& directory, bool* used) {
  std::string bytes;
  FLINT_RETURN_IF_ERROR(ReadFile(env, directory, &bytes));
  *used = bytes.find_first_not_of('\0', kRingHeaderBytes) != std::string::npos;
  return Status();
}

std::string RingImage::Bytes(uint64_t position, uint64_t size) const {
  std::string bytes;
  if (data_.empty()) return bytes;
  const uint64_t at = position % data_.size();
  bytes = data_.substr(at, size);
  if (bytes.size() < size) bytes.append(data_, 0, std::min(size - bytes.size(), at));
  return bytes;
}

}  // namespace flint
