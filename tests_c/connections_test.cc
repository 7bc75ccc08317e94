// Connections to a server when memory is short: a call ends however it ends.

#include "remote/connections.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <future>
#include <memory>
#include <new>
#include <string>
#include <thread>

namespace {

// Allocations of this thread from this size on fail.
thread_local size_t fails_from_bytes = SIZE_MAX;

}  // namespace

void* operator new(size_t size) {
  void* const made = size < fails_from_bytes ? std::malloc(size == 0 ? 1 : size) : nullptr;
  if (made == nullptr) throw std::bad_alloc();
  return made;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace flint {
namespace {

constexpr size_t kLargeBytes = size_t{1} << 20;

class Scarce {
 public:
  explicit Scarce(size_t from_bytes) { fails_from_bytes = from_bytes; }
  ~Scarce() { fails_from_bytes = SIZE_MAX; }
  Scarce(const Scarce&) = delete;
  Scarce& operator=(const Scarce&) = delete;
};

// Answers who greets, and LARGE and SMALL; one connection at a time.
class Server {
 public:
  Server() {
    char directory[] = "/tmp/flint-connections-XXXXXX";
    directory_ = mkdtemp(directory);
    address_.path = directory_ + "/socket";
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    address_.path.copy(name.sun_path, sizeof(name.sun_path) - 1);
    listener_ = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    thread_ = std::thread([this] { Run(); });
  }
  ~Server() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
    unlink(address_.path.c_str());
    rmdir(directory_.c_str());
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const Address& address() const { return address_; }

 private:
  void Run() const {
    for (int stream; (stream = accept(listener_, nullptr, nullptr)) >= 0;) {
      Serve(stream);
      close(stream);
    }
  }
  static void Serve(int stream) {
    char request[256];
    ssize_t got = 0;
    while ((got = recv(stream, request, sizeof(request), 0)) > 0) {
      const std::string_view asked(request, static_cast<size_t>(got));
      std::string reply = "$2\r\nOK\r\n";
      if (asked.find("HELLO") != std::string_view::npos) {
        reply = "%1\r\n$6\r\nserver\r\n$5\r\nflint\r\n";
      } else if (asked.find("LARGE") != std::string_view::npos) {
        reply = "$" + std::to_string(kLargeBytes) + "\r\n" + std::string(kLargeBytes, 'x') + "\r\n";
      }
      std::string_view rest = reply;
      for (ssize_t sent = 0; !rest.empty(); rest.remove_prefix(static_cast<size_t>(sent))) {
        sent = send(stream, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (sent <= 0) return;
      }
    }
  }

  std::string directory_;
  Address address_;
  int listener_ = -1;
  std::thread thread_;
};

class ConnectionsWithoutMemory : public testing::Test {
 protected:
  // What cannot be closed is left as it is.
  void TearDown() override {
    std::promise<void> closed;
    std::future<void> closing = closed.get_future();
    std::thread closer([all = all_, closed = std::move(closed)]() mutable {
      all->Close();
      closed.set_value();
    });
    const bool is_closed = closing.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
    EXPECT_TRUE(is_closed) << "a call that has ended is still waited for";
    if (!is_closed) return closer.detach();
    closer.join();
  }

  Server server_;
  const std::shared_ptr<Connections> all_ =
      std::make_shared<Connections>(server_.address(), nullptr, "", std::chrono::seconds(60));
};

TEST_F(ConnectionsWithoutMemory, AServerIsReached) {
  EXPECT_THROW(
      {
        const Scarce scarce(0);
        static_cast<void>(all_->Reach());
      },
      std::bad_alloc);
  EXPECT_TRUE(all_->Reach().ok());
}

TEST_F(ConnectionsWithoutMemory, AnAnswerComes) {
  const RespRequest large{"LARGE"};
  RespReply reply;
  EXPECT_THROW(
      {
        const Scarce scarce(kLargeBytes / 2);
        static_cast<void>(all_->Ask(large, {}, true, &reply));
      },
      std::bad_alloc);
  // Some of that answer has come: it is not taken for the next one's.
  ASSERT_TRUE(all_->Ask({"SMALL"}, {}, true, &reply).ok());
  EXPECT_EQ(reply.text, "OK");
  ASSERT_TRUE(all_->Ask(large, {}, true, &reply).ok());
  EXPECT_EQ(reply.text.size(), kLargeBytes);
}

}  // namespace
}  // namespace flint
