#include "sharing/owner.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "base/clock.h"

namespace flint::sharing {
namespace {

// What epoll tells; connections have higher numbers.
constexpr uint64_t kListenerId = 1;
constexpr uint64_t kWakeId = 2;
constexpr uint64_t kWatchId = 3;
constexpr uint64_t kFirstConnectionId = 16;

constexpr int kMaxEvents = 64;
// So often whoever waits for an answer is told that it is being worked on.
constexpr int kTickMs = 200;
constexpr uint64_t kTickNs = uint64_t{kTickMs} * 1'000'000;
constexpr uint64_t kLongestFarewellNs = 5'000'000'000;
// So often those who wait in line are asked whether they are there.
constexpr uint64_t kRollCallNs = 2'000'000'000;
// So many are told where they stand before others are served: each takes time in proportion to
// those before him.
constexpr size_t kMostToldAtOnce = 16;

int64_t WallNs() { return Clock::System()->WallNs(); }

}  // namespace

// ---- Workers ---------------------------------------------------------------------------------

Status Worker::Start(const char* name) {
  // What a job throws would be a defect; nothing can be answered then.
  return thread_.Start(
      name, [this] { Run(); }, [](const Status&) {});
}

void Worker::Add(uint64_t asker, std::function<void()> job) {
  const MutexLock lock(mutex_);
  jobs_.push_back({asker, std::move(job)});
  changed_.NotifyAll();
}

std::vector<uint64_t> Worker::Forget() {
  const MutexLock lock(mutex_);
  std::vector<uint64_t> askers;
  askers.reserve(jobs_.size());
  for (const Job& one : jobs_) askers.push_back(one.asker);
  jobs_.clear();
  return askers;
}

size_t Worker::ForgetThoseOf(uint64_t asker) {
  const MutexLock lock(mutex_);
  return std::erase_if(jobs_, [asker](const Job& one) { return one.asker == asker; });
}

void Worker::Run() {
  for (;;) {
    std::function<void()> job;
    {
      const MutexLock lock(mutex_);
      while (jobs_.empty() && !stopping_) changed_.Wait(mutex_);
      if (stopping_) return;
      job = std::move(jobs_.front().run);
      jobs_.pop_front();
    }
    job();
  }
}

void Worker::Stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.Join();
}

// ---- Beginning and end -----------------------------------------------------------------------

Owner::Owner(flint_limiter* limiter, Settings settings)
    : limiter_(limiter),
      settings_(std::move(settings)),
      since_ns_(WallNs()),
      last_id_(kFirstConnectionId) {}

Owner::~Owner() = default;

int32_t Owner::Prepare(flint_limiter_error* error) {
  const int32_t code = PrepareAll(error);
  if (code != FLINT_LIMITER_OK) Stop();
  return code;
}

int32_t Owner::PrepareAll(flint_limiter_error* error) {
  int failed = epoll_.OpenEpoll();
  if (failed == 0) failed = wake_.OpenEvent();
  if (failed == 0) failed = Register(wake_.get(), kWakeId);
  if (failed != 0) {
    return Fail(FLINT_LIMITER_IO,
                std::string("cannot share the data directory: ") + std::strerror(failed), error);
  }
  failed = Listen(settings_.directory, &listener_);
  if (failed != 0) {
    return Fail(FLINT_LIMITER_UNSUPPORTED,
                "cannot make the socket " + settings_.directory + "/" + kSocketName + ": " +
                    std::strerror(failed) +
                    "; a directory that processes share must be on a local file system, or use a "
                    "Flint server (flint server start)",
                error);
  }
  failed = Register(listener_.get(), kListenerId);
  if (failed != 0) {
    return Fail(FLINT_LIMITER_IO,
                std::string("cannot share the data directory: ") + std::strerror(failed), error);
  }
  Status status = short_waits_.Start("flint-wait");
  if (status.ok()) status = long_calls_.Start("flint-aside");
  if (status.ok()) {
    status = thread_.Start(
        "flint-owner", [this] { Run(); }, [](const Status&) {});
  }
  if (status.ok()) return FLINT_LIMITER_OK;
  return Fail(static_cast<int32_t>(status.code()), status.message(), error);
}

int Owner::Register(int fd, uint64_t id) const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = id;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

void Owner::Begin() {
  // Where there is no descriptor left for it, each turn of the loop looks what is on disk.
  if (flint_limiter_watch(limiter_, &watch_, nullptr) != FLINT_LIMITER_OK) watch_ = -1;
  if (watch_ >= 0 && Register(watch_, kWatchId) != 0) {
    flint_limiter_unwatch(limiter_, watch_, nullptr);
    watch_ = -1;
  }
  const MutexLock lock(mutex_);
  begun_ = true;
  begun_changed_.NotifyAll();
}

void Owner::Stop() {
  stopping_ = true;
  {
    const MutexLock lock(mutex_);
    begun_changed_.NotifyAll();
  }
  if (wake_.open()) eventfd_write(wake_.get(), 1);
  thread_.Join();
  short_waits_.Stop();
  long_calls_.Stop();
  if (listener_.open()) RemoveSocket(settings_.directory);
  listener_.Close();
  connections_.clear();
  if (watch_ >= 0) flint_limiter_unwatch(limiter_, watch_, nullptr);
  watch_ = -1;
}

void Owner::Run() {
  {
    const MutexLock lock(mutex_);
    while (!begun_ && !stopping_) begun_changed_.Wait(mutex_);
    if (!begun_) return;
  }
  Loop();
}

void Owner::Loop() {
  uint64_t leave_at_ns = 0;
  for (;;) {
    if (stopping_) {
      if (leave_at_ns == 0) {
        leave_at_ns = SteadyNs() + kLongestFarewellNs;
        Leave();
      }
      if (IsIdle() || SteadyNs() > leave_at_ns) return;
    }
    Turn();
  }
}

// Nobody may ask any more. Who has asked for what is being made is answered.
void Owner::Leave() {
  RemoveSocket(settings_.directory);
  listener_.Close();
  for (Worker* const worker : {&short_waits_, &long_calls_}) {
    for (const uint64_t asker : worker->Forget()) {
      running_--;
      connections_.erase(asker);
    }
  }
  for (auto at = connections_.begin(); at != connections_.end();) {
    Connection* const one = at->second.get();
    one->closing = true;
    const bool is_owed = one->asked || (!one->output.empty() && !one->in_line);
    at = is_owed ? std::next(at) : connections_.erase(at);
  }
}

// Whether nobody waits for an answer.
bool Owner::IsIdle() const {
  return running_ == 0 && waiting_.empty() &&
         std::all_of(connections_.begin(), connections_.end(),
                     [](const auto& one) { return one.second->output.empty(); });
}

void Owner::Turn() {
  AskForSync();
  epoll_event events[kMaxEvents];
  const bool owes =
      running_ > 0 || !waiting_.empty() || stopping_ || accepts_later_ || !lines_.empty();
  const int idle_ms = to_tell_.empty() ? kTickMs : 0;
  const int count = epoll_wait(epoll_.get(), events, kMaxEvents, owes ? idle_ms : -1);
  for (int i = 0; i < count; i++) OnEvent(events[i].data.u64, events[i].events);
  if (watch_ < 0 && !waiting_.empty()) OnDurable();
  if (owes) SayStillAtIt();
  AskWhoIsThere();
  TellPlaces();
  if (accepts_later_ && SteadyNs() >= accepts_at_ns_ && listener_.open()) {
    accepts_later_ = Register(listener_.get(), kListenerId) != 0;
  }
}

void Owner::OnEvent(uint64_t id, uint32_t events) {
  if (id == kListenerId) {
    Accept();
  } else if (id == kWakeId) {
    eventfd_t times = 0;
    eventfd_read(wake_.get(), &times);
    TakeDone();
  } else if (id == kWatchId) {
    OnDurable();
  } else {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    Connection* const connection = found->second.get();
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
      Drop(id);
    } else if ((events & EPOLLOUT) != 0) {
      Send(id, connection);
      GoOn(id);
    } else {
      Receive(id, connection);
    }
  }
}

// ---- Connections -----------------------------------------------------------------------------

void Owner::Accept() {
  while (!stopping_) {
    auto made = std::make_unique<Connection>();
    const int failed = made->socket.OpenAccepted(listener_.get());
    if (failed == EAGAIN) return;
    if (failed == ECONNABORTED || failed == EINTR) continue;
    if (failed != 0) {  // descriptors have run out: whoever waits is looked at again later
      accepts_later_ = true;
      accepts_at_ns_ = SteadyNs() + kTickNs;
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.get(), nullptr);
      return;
    }
    if (PeerOf(made->socket.get(), &made->peer) != 0) continue;
    made->since_ns = WallNs();
    made->events = EPOLLIN;
    const uint64_t id = ++last_id_;
    if (Register(made->socket.get(), id) != 0) continue;
    Connection* const connection = made.get();
    connections_.emplace(id, std::move(made));
    RefuseForeigners(id, connection);
  }
}

void Owner::RefuseForeigners(uint64_t id, Connection* connection) {
  std::string why;
  int32_t code = FLINT_LIMITER_OK;
  if (connection->peer.uid != geteuid()) {
    code = FLINT_LIMITER_PERMISSION;
    why = "the data directory is owned by a process of user " + std::to_string(geteuid()) +
          ", and this one is of user " + std::to_string(connection->peer.uid) +
          "; processes that share a directory must be of one user";
  } else if (connections_.size() > kMaxConnections || running_ > kMaxConnections) {
    code = FLINT_LIMITER_UNSUPPORTED;
    why =
        "1,024 connections share the data directory, which is the most that its owner serves; "
        "use a Flint server (flint server start) or fewer processes and threads";
  }
  if (code == FLINT_LIMITER_OK) return;
  connection->closing = true;
  connection->output = ErrorReply(code, why);
  Send(id, connection);
}

void Owner::Receive(uint64_t id, Connection* connection) {
  const ssize_t got = recv(connection->socket.get(), buffer_.data(), buffer_.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    Drop(id);
    return;
  }
  const std::string_view bytes(buffer_.data(), static_cast<size_t>(got));
  connection->input.append(bytes);
  ReadRequests(id, connection);
}

// One request at a time: what comes behind it stays until it is answered.
void Owner::ReadRequests(uint64_t id, Connection* connection) {
  const auto found = [&] { return connections_.contains(id); };
  while (found() && !connection->asked && !connection->closing && connection->output.empty()) {
    uint32_t length = 0;
    if (connection->input.size() < sizeof(length)) break;
    std::memcpy(&length, connection->input.data(), sizeof(length));
    if (length > kMaxRequestBytes) {
      connection->closing = true;
      Reply(id, ErrorReply(FLINT_LIMITER_INVALID_ARGUMENT, "a request of more than 4 MiB"));
      return;
    }
    if (connection->input.size() - sizeof(length) < length) break;
    const std::string request = std::move(connection->input);
    connection->input = request.substr(sizeof(length) + length);
    connection->requests++;
    OnRequest(id, connection, std::string_view(request).substr(sizeof(length), length));
  }
  if (found()) Update(id, connection);
}

void Owner::OnRequest(uint64_t id, Connection* connection, std::string_view body) {
  Reader reader(body);
  Function function{};
  reader.Get(&function);
  if (function == Function::kDescribe) {
    Writer reply;
    Reply(id, reply.Put(int32_t{FLINT_LIMITER_OK}).Text(Describe()).Finish());
  } else if (function >= Function::kJoin && function <= Function::kHere) {
    OnLine(id, connection, function, &reader);
  } else if (!connection->greeted) {
    Greet(connection, function == Function::kGreet ? body.substr(sizeof(function)) : "");
    const std::string reply = std::exchange(connection->output, "");
    Reply(id, reply);
  } else {
    Start(id, connection, body);
  }
}

void Owner::Greet(Connection* connection, std::string_view body) {
  std::string why;
  const int32_t code = CheckGreeting(body, settings_.sync, &why);
  if (code == FLINT_LIMITER_OK) {
    connection->greeted = true;
    connection->output = Writer().Put(code).Finish();
  } else {
    connection->closing = true;
    connection->output = ErrorReply(code, why);
  }
}

// Lines of words: who owns the directory, since when, how long nobody had, and how; then each
// connection with its process, since when it is, and how many requests came by it, or how many wait
// in line.
std::string Owner::Describe() const {
  std::string text = "owner " + std::to_string(getpid()) + " " + std::to_string(since_ns_) + " " +
                     std::to_string(settings_.takeover_ns) + " " + flint_limiter_version() +
                     (settings_.sync == FLINT_LIMITER_SYNC_ALWAYS ? " always\n" : " batch\n");
  for (const auto& [id, one] : connections_) {
    if (!one->greeted && !one->in_line) continue;
    text += one->in_line ? "line " : "client ";
    text += std::to_string(one->peer.pid) + " " + std::to_string(one->since_ns) + " " +
            std::to_string(one->in_line ? lines_.CountOf(id) : one->requests) + "\n";
  }
  return text;
}

void Owner::Reply(uint64_t id, std::string_view reply) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  found->second->output.append(reply);
  Send(id, found->second.get());
}

void Owner::Send(uint64_t id, Connection* connection) {
  std::string& output = connection->output;
  while (connection->sent < output.size()) {
    const ssize_t sent = send(connection->socket.get(), output.data() + connection->sent,
                              output.size() - connection->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) {
      Drop(id);
      return;
    }
    if (sent < 0) break;
    connection->sent += static_cast<size_t>(sent);
  }
  if (connection->sent == output.size()) {
    output.clear();
    connection->sent = 0;
    // One that is told to wait is not answered yet.
    if (connection->closing && !connection->asked) {
      Drop(id);
      return;
    }
  }
  Update(id, connection);
}

// Has epoll look for what is wanted now.
void Owner::Update(uint64_t id, Connection* connection) {
  uint32_t wanted = 0;
  if (!connection->output.empty()) {
    wanted = EPOLLOUT;
  } else if (!connection->asked && !connection->closing) {
    wanted = EPOLLIN;
  }
  if (wanted == connection->events) return;
  connection->events = wanted;
  epoll_event event{};
  event.events = wanted;
  event.data.u64 = id;
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, connection->socket.get(), &event);
}

void Owner::Drop(uint64_t id) {
  if (connections_.erase(id) == 0) return;
  running_ -= short_waits_.ForgetThoseOf(id) + long_calls_.ForgetThoseOf(id);
  to_tell_.erase(to_tell_.lower_bound({id, 0}), to_tell_.lower_bound({id + 1, 0}));
  TellLater(lines_.LeaveAll(id));
}

// ---- Lines -----------------------------------------------------------------------------------

void Owner::OnLine(uint64_t id, Connection* connection, Function function, Reader* reader) {
  connection->in_line = connection->here = true;
  uint64_t number = 0;
  switch (function) {
    case Function::kJoin:
      OnJoin(id, reader);
      break;
    case Function::kLeave:
      reader->Get(&number);
      to_tell_.erase({id, number});
      if (const auto first_now = lines_.Leave({id, number})) TellLater({*first_now});
      break;
    case Function::kPlace:
      reader->Get(&number);
      if (lines_.Contains({id, number})) TellLater({{id, number}});
      break;
    default:
      break;
  }
  if (reader->AtEnd()) return;
  connection->closing = true;
  Reply(id, ErrorReply(FLINT_LIMITER_INVALID_ARGUMENT, "a request that cannot be read"));
}

void Owner::OnJoin(uint64_t id, Reader* reader) {
  uint64_t number = 0;
  uint64_t cost = 0;
  std::string_view key;
  reader->Get(&number);
  reader->Get(&cost);
  reader->Text(&key);
  if (!reader->AtEnd()) return;
  PlaceInLine told;
  told.number = number;
  if (const auto place = lines_.Join({id, number}, key, cost)) {
    told.first = uint32_t{place->first};
    told.units_ahead = place->units_ahead;
  } else {
    told.code = FLINT_LIMITER_UNSUPPORTED;
  }
  Reply(id, Writer().Put(told).Finish());
}

void Owner::LookAgain() {
  looks_again_ = true;
  eventfd_write(wake_.get(), 1);
}

void Owner::TellLater(const std::vector<Lines::Waiter>& waiters) {
  to_tell_.insert(waiters.begin(), waiters.end());
}

// In turns, so that nobody who asks again and again keeps the others waiting. Sending may find that
// a connection has ended, and so others to be first.
void Owner::TellPlaces() {
  if (looks_again_.exchange(false)) TellLater(lines_.Firsts());
  for (size_t told = 0; told < kMostToldAtOnce && !to_tell_.empty(); told++) {
    auto next = to_tell_.upper_bound(told_last_);
    if (next == to_tell_.end()) next = to_tell_.begin();
    told_last_ = *next;
    to_tell_.erase(next);
    const std::optional<Lines::Place> place = lines_.PlaceOf(told_last_);
    if (!place.has_value()) continue;
    const PlaceInLine where{FLINT_LIMITER_OK, uint32_t{place->first}, told_last_.number,
                            place->units_ahead};
    Reply(told_last_.connection, Writer().Put(where).Finish());
  }
}

// A process that is stopped must not keep the others waiting.
void Owner::AskWhoIsThere() {
  const uint64_t now_ns = SteadyNs();
  if (lines_.empty() || now_ns - roll_called_at_ns_ < kRollCallNs) return;
  roll_called_at_ns_ = now_ns;
  std::vector<uint64_t> asked;
  for (const auto& [id, one] : connections_) {
    if (one->in_line) asked.push_back(id);
  }
  const std::string question = Writer().Put(PlaceInLine()).Finish();
  for (const uint64_t id : asked) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) continue;
    if (!found->second->here) {
      Drop(id);
      continue;
    }
    found->second->here = false;
    Reply(id, question);
  }
}

// ---- Requests --------------------------------------------------------------------------------

void Owner::Start(uint64_t id, Connection* connection, std::string_view body) {
  connection->asked = true;
  const Length length = LengthOf(body);
  if (length != Length::kMoment) {
    MakeAside(length == Length::kWait ? &short_waits_ : &long_calls_, id, std::string(body));
    return;
  }
  Answer answer = Perform(limiter_, body, FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC);
  if (answer.code == FLINT_LIMITER_WOULD_BLOCK || answer.code == FLINT_LIMITER_BUSY) {
    MakeAside(&short_waits_, id, std::string(body));
    return;
  }
  Finish(id, std::move(answer));
}

void Owner::MakeAside(Worker* worker, uint64_t id, std::string body) {
  running_++;
  worker->Add(id, [this, id, body = std::move(body)] {
    Answer answer = Perform(limiter_, body, FLINT_LIMITER_NO_SYNC);
    const MutexLock lock(mutex_);
    done_.push_back({id, std::move(answer)});
    eventfd_write(wake_.get(), 1);
  });
}

void Owner::TakeDone() {
  std::vector<Done> done;
  {
    const MutexLock lock(mutex_);
    done.swap(done_);
  }
  for (Done& one : done) {
    running_--;
    Finish(one.connection, std::move(one.answer));
    GoOn(one.connection);
  }
}

// Sends the answer when it is durable.
void Owner::Finish(uint64_t id, Answer answer) {
  if (settings_.sync == FLINT_LIMITER_SYNC_ALWAYS && answer.ticket > durable_) {
    const auto behind =
        std::upper_bound(waiting_.begin(), waiting_.end(), answer.ticket,
                         [](uint64_t ticket, const Waiting& one) { return ticket < one.ticket; });
    waiting_.insert(behind, {answer.ticket, id, std::move(answer.reply)});
    return;
  }
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  found->second->asked = false;
  Reply(id, answer.reply);
}

// Reads what has come while something else was answered.
void Owner::GoOn(uint64_t id) {
  const auto found = connections_.find(id);
  if (found != connections_.end()) ReadRequests(id, found->second.get());
}

void Owner::AskForSync() {
  if (waiting_.empty() || waiting_.back().ticket <= asked_ticket_) return;
  asked_ticket_ = waiting_.back().ticket;
  // When it is on disk already nobody may tell.
  if (flint_limiter_wait(limiter_, asked_ticket_, 0, nullptr) != FLINT_LIMITER_TIMEOUT) OnDurable();
}

void Owner::OnDurable() {
  eventfd_t advances = 0;
  if (watch_ >= 0) eventfd_read(watch_, &advances);
  flint_limiter_durable(limiter_, &durable_, nullptr);
  std::string failed;
  if (!waiting_.empty() && waiting_.back().ticket > durable_) {
    flint_limiter_error error = NoError();
    const uint64_t newest = waiting_.back().ticket;
    const int32_t code = flint_limiter_wait(limiter_, newest, 0, &error);
    if (code == FLINT_LIMITER_OK) durable_ = newest;
    if (code != FLINT_LIMITER_OK && code != FLINT_LIMITER_TIMEOUT) failed = ErrorReply(code, error);
  }
  while (!waiting_.empty() && (waiting_.front().ticket <= durable_ || !failed.empty())) {
    const Waiting one = std::move(waiting_.front());
    waiting_.pop_front();
    Answer answer;
    answer.reply = one.ticket <= durable_ ? one.reply : failed;
    Finish(one.connection, std::move(answer));
    GoOn(one.connection);
  }
}

// Whoever waits must not take a slow disk for an owner that is stopped.
void Owner::SayStillAtIt() {
  const uint64_t now_ns = SteadyNs();
  if (now_ns - said_at_ns_ < kTickNs) return;
  said_at_ns_ = now_ns;
  const std::string message = Writer().Put(kStillAtIt).Finish();
  std::vector<uint64_t> waits;
  for (const auto& [id, one] : connections_) {
    if (one->asked && one->output.empty()) waits.push_back(id);
  }
  for (const uint64_t id : waits) Reply(id, message);
}

}  // namespace flint::sharing
