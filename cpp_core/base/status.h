#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/status_codes.h"

namespace flint {

// The outcome of an operation: a code and, for an error, what a person needs to know about it.
// A success holds no memory, so returning one costs nothing on the check path. Copies share their
// detail, which is how one failed sync can be handed to every waiter.
class [[nodiscard]] Status {
 public:
  struct Detail {
    std::string message;
    int system_errno = 0;
    std::string segment;  // file name, when the error is about a place in the log
    uint64_t offset = 0;
    uint64_t sequence = 0;
  };

  Status() = default;
  Status(Code code, std::string message) : code_(code), detail_(std::make_shared<Detail>()) {
    detail_->message = std::move(message);
  }

  // "<what>: <strerror>"; picks kDiskFull, kPermission and so on from the errno.
  static Status FromErrno(int system_errno, const std::string& what);
  // The same with a code that the caller knows better.
  static Status FromErrno(Code code, int system_errno, const std::string& what);

  // Codes alone, for outcomes that are ordinary and must not allocate.
  static Status WouldBlock() { return Status(Code::kWouldBlock); }
  static Status Busy() { return Status(Code::kBusy); }
  static Status Closed() { return Status(Code::kClosed); }
  static Status TableFull() { return Status(Code::kTableFull); }
  static Status NoMemory() { return Status(Code::kNoMemory); }

  // The system's error of another status.
  Status& WithErrnoOf(const Status& other) {
    if (detail_ && other.detail_) detail_->system_errno = other.detail_->system_errno;
    return *this;
  }
  Status& At(std::string segment, uint64_t offset, uint64_t sequence) {
    if (detail_) {
      detail_->segment = std::move(segment);
      detail_->offset = offset;
      detail_->sequence = sequence;
    }
    return *this;
  }

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const Detail* detail() const { return detail_.get(); }
  // The detail's message, or the code's own sentence.
  std::string message() const;

 private:
  explicit Status(Code code) : code_(code) {}

  Code code_ = Code::kOk;
  std::shared_ptr<Detail> detail_;
};

#define FLINT_RETURN_IF_ERROR(expression)   \
  do {                                      \
    ::flint::Status status_ = (expression); \
    if (!status_.ok()) [[unlikely]]         \
      return status_;                       \
  } while (0)

}  // namespace flint
