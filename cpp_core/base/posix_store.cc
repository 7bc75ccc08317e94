#include "base/posix_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/bus_guard.h"
#include "base/posix_file.h"

namespace flint {
namespace {

// Keeps a copy in memory, which is what is read: bytes may vanish from a file that is cut short
// without a fault, behind its end in the page that is left.
class MappedStore final : public StoreFile {
 public:
  MappedStore(char* base, size_t size) : StoreFile(&failed_), base_(base), size_(size) {}
  ~MappedStore() override {
    if (guarded_) BusGuard::Unwatch(base_);
    munmap(base_, size_);
  }

  bool Guard() { return guarded_ = BusGuard::Watch(base_, size_, &failed_); }
  void set_copy(std::string copy) { copy_ = std::move(copy); }

  void Store(uint64_t offset, const void* data, size_t size) override {
    FLINT_ASSERT(offset <= size_ && size <= size_ - offset);
    std::memcpy(copy_.data() + offset, data, size);
    std::memcpy(base_ + offset, data, size);
  }

  void StoreWord(uint64_t offset, uint64_t word) override {
    FLINT_ASSERT(offset % sizeof(word) == 0 && offset + sizeof(word) <= size_);
    std::memcpy(copy_.data() + offset, &word, sizeof(word));
    __atomic_store_n(reinterpret_cast<uint64_t*>(base_ + offset), word, __ATOMIC_RELEASE);
  }

  const char* data() const override { return copy_.data(); }
  size_t size() const override { return size_; }
  Memory memory() override { return {base_, copy_.data()}; }

 private:
  char* const base_;
  const size_t size_;
  std::string copy_;
  bool guarded_ = false;
  std::atomic<bool> failed_{false};
};

// Keeps a copy in memory, which is what is read.
class WrittenStore final : public StoreFile {
 public:
  WrittenStore(Descriptor descriptor, std::string content)
      : StoreFile(&failed_), descriptor_(std::move(descriptor)), content_(std::move(content)) {}

  void Store(uint64_t offset, const void* data, size_t size) override {
    FLINT_ASSERT(offset <= content_.size() && size <= content_.size() - offset);
    std::memcpy(content_.data() + offset, data, size);
    const char* at = content_.data() + offset;
    if (!descriptor_.IsOwn()) failed_.store(true, std::memory_order_relaxed);
    while (size > 0 && !failed_.load(std::memory_order_relaxed)) {
      const ssize_t n = RetryInterrupted(
          [&] { return pwrite(descriptor_.get(), at, size, static_cast<off_t>(offset)); });
      if (n <= 0) {
        failed_.store(true, std::memory_order_relaxed);
        return;
      }
      at += n;
      offset += static_cast<uint64_t>(n);
      size -= static_cast<size_t>(n);
    }
  }

  void StoreWord(uint64_t offset, uint64_t word) override { Store(offset, &word, sizeof(word)); }

  const char* data() const override { return content_.data(); }
  size_t size() const override { return content_.size(); }
  Memory memory() override { return {}; }

 private:
  const Descriptor descriptor_;
  std::string content_;
  std::atomic<bool> failed_{false};
};

// Every block is allocated now: storing into a hole on a full disk would fail, or kill the process.
Status Resize(int fd, const std::string& path, size_t old_size, size_t size) {
  int error;
  do {
    error = posix_fallocate(fd, 0, static_cast<off_t>(size));
  } while (error == EINTR);
  if (error != 0) return Status::FromErrno(error, "cannot reserve space for " + path);
  if (old_size > size &&
      RetryInterrupted([&] { return ftruncate(fd, static_cast<off_t>(size)); }) != 0) {
    return Status::FromErrno(errno, "cannot truncate " + path);
  }
  return Status();
}

// Nothing is wrong with the file then: it is only not to be mapped.
bool IsRefusal(int error) {
  return error == EINVAL || error == ENODEV || error == EOPNOTSUPP || error == ENOSYS ||
         error == EACCES || error == EPERM;
}

Status CannotMap(const std::string& path) {
  return Status::FromErrno(errno, "cannot map " + path + " (mapped=\"never\" does without)");
}

// `*store` stays null when the file cannot be mapped or the mapping not be guarded.
Status Map(int fd, const std::string& path, size_t size, std::unique_ptr<MappedStore>* store) {
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return IsRefusal(errno) ? Status() : CannotMap(path);
  auto mapped = std::make_unique<MappedStore>(static_cast<char*>(base), size);
  if (madvise(base, size, MADV_DONTFORK) != 0) {
    return IsRefusal(errno) ? Status() : CannotMap(path);
  }
  if (mapped->Guard()) *store = std::move(mapped);
  return Status();
}

Status ReadWhole(int fd, const std::string& path, std::string* content) {
  size_t at = 0;
  while (at < content->size()) {
    const ssize_t n = RetryInterrupted([&] {
      return pread(fd, content->data() + at, content->size() - at, static_cast<off_t>(at));
    });
    if (n < 0) return Status::FromErrno(errno, "cannot read " + path);
    if (n == 0) return Status(Code::kIo, path + " was cut short while it was opened");
    at += static_cast<size_t>(n);
  }
  return Status();
}

}  // namespace

Status OpenPosixStore(const FilePlace& place, size_t size, StoreMode mode, const Access& access,
                      std::unique_ptr<StoreFile>* store) {
  const std::string& path = place.path;
  Descriptor descriptor;
  struct stat info;
  FLINT_RETURN_IF_ERROR(
      OpenRegular(place, O_RDWR | O_CREAT | O_NOFOLLOW, access, &descriptor, &info));
  FLINT_RETURN_IF_ERROR(Resize(descriptor.get(), path, static_cast<size_t>(info.st_size), size));
  std::unique_ptr<MappedStore> mapped;
  if (mode == StoreMode::kMapped) {
    FLINT_RETURN_IF_ERROR(Map(descriptor.get(), path, size, &mapped));
  }
  std::string content(size, '\0');
  FLINT_RETURN_IF_ERROR(ReadWhole(descriptor.get(), path, &content));
  if (mapped == nullptr) {
    *store = std::make_unique<WrittenStore>(std::move(descriptor), std::move(content));
  } else {
    mapped->set_copy(std::move(content));
    *store = std::move(mapped);
  }
  return Status();
}

}  // namespace flint
