#include "base/posix_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <cstring>

#include "base/posix_file.h"

namespace flint {
namespace {

class PosixStore final : public StoreFile {
 public:
  PosixStore(char* base, size_t size) : base_(base), size_(size) {}
  ~PosixStore() override { munmap(base_, size_); }

  void Store(uint64_t offset, const void* data, size_t size) override {
    assert(offset <= size_ && size <= size_ - offset);
    std::memcpy(base_ + offset, data, size);
  }

  void StoreWord(uint64_t offset, uint64_t word) override {
    assert(offset % sizeof(word) == 0 && offset + sizeof(word) <= size_);
    __atomic_store_n(reinterpret_cast<uint64_t*>(base_ + offset), word, __ATOMIC_RELEASE);
  }

  const char* data() const override { return base_; }
  size_t size() const override { return size_; }

 private:
  char* const base_;
  const size_t size_;
};

// Every block is allocated now: storing into a hole on a full disk would kill the process.
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

}  // namespace

Status OpenPosixStore(const std::string& path, size_t size, std::unique_ptr<StoreFile>* store) {
  Descriptor descriptor;
  struct stat info;
  FLINT_RETURN_IF_ERROR(OpenRegular(path, O_RDWR | O_CREAT | O_NOFOLLOW, &descriptor, &info));
  FLINT_RETURN_IF_ERROR(Resize(descriptor.get(), path, static_cast<size_t>(info.st_size), size));
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.get(), 0);
  if (base == MAP_FAILED) return Status::FromErrno(errno, "cannot map " + path);
  auto mapped = std::make_unique<PosixStore>(static_cast<char*>(base), size);
  if (madvise(base, size, MADV_DONTFORK) != 0) {
    return Status::FromErrno(errno, "cannot keep children from " + path);
  }
  *store = std::move(mapped);
  return Status();
}

}  // namespace flint
