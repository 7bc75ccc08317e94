#include "redis_session.h"

#include <utility>

#include "redis_commands.h"
#include "server.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr RedisReader::Bounds kBounds;
// Of who has not said a token where one is needed: room for HELLO with all that it takes.
constexpr RedisReader::Bounds kBoundsOfStrangers = {10, uint64_t{16} * 1024};

}  // namespace

RedisSession::RedisSession(Server* server, Connection* connection)
    : id(server->NextClientId()), server_(server), connection_(connection) {}

size_t RedisSession::Read(std::string_view bytes) {
  size_t read = 0;
  while (read < bytes.size() && connection_->may_read()) {
    size_t used = 0;
    const bool begun = reader_.begun();
    switch (reader_.Read(bytes.substr(read), &used, rights() ? kBounds : kBoundsOfStrangers)) {
      case RedisReader::Event::kMore:
        // What comes byte by byte has no more time for it.
        if (!begun) connection_->SetPhase(Phase::kBody);
        break;
      case RedisReader::Event::kRequest:
        connection_->SetPhase(Phase::kIdle);
        OnRequest();
        break;
      case RedisReader::Event::kRefused:
        OnRefused();
        return bytes.size();
    }
    read += used;
  }
  return read;
}

void RedisSession::OnRequest() {
  const auto exchange =
      std::make_shared<RedisExchange>(server_, connection_, this, std::move(reader_.arguments()));
  const std::vector<std::string>& words = exchange->words();
  const RedisCommand* const command = FindRedisCommand(words[0]);
  const auto allowed = rights();
  if (command != nullptr) exchange->NameCommand(command->name);
  if (!allowed && (command == nullptr || !command->open)) {
    exchange->Error("Authentication required.", "NOAUTH");
  } else if (command == nullptr) {
    exchange->Error("unknown command " + Quoted(words[0].substr(0, 64)));
  } else if (!command->TakesWords(words.size())) {
    exchange->Error("wrong number of arguments for '" + std::string(command->name) + "'; usage: " +
                    std::string(command->name) + " " + std::string(command->arguments));
  } else if (allowed && *allowed < command->rights) {
    exchange->Error("this token does not give the right to do that", "NOPERM");
  } else {
    command->handler(exchange);
  }
}

void RedisSession::OnRefused() {
  const auto exchange =
      std::make_shared<RedisExchange>(server_, connection_, this, std::vector<std::string>());
  exchange->SendAndClose(exchange->Reply().Error("ERR", "Protocol error: " + reader_.refusal()));
}

std::optional<Rights> RedisSession::rights() const {
  if (!server_->tokens().required()) return Rights::kAdmin;
  // Tokens may have been taken away since.
  return token_ ? server_->tokens().Find(*token_) : std::nullopt;
}

bool RedisSession::Authenticate(std::string_view user, std::string_view token) {
  if (user != "default" || !server_->tokens().Find(token)) return false;
  token_ = token;
  return true;
}

std::string_view RedisCodeOf(int32_t code) {
  return code == FLINT_LIMITER_INVALID_ARGUMENT ? "ERR" : flint_limiter_code_name(code);
}

// ---- Exchanges -------------------------------------------------------------------------------

RedisExchange::RedisExchange(Server* server, Connection* connection, RedisSession* session,
                             std::vector<std::string> words)
    : server_(server),
      connection_(connection->shared_from_this()),
      session_(session),
      words_(std::move(words)),
      place_(connection->Reserve()),
      version_3_(session->version_3) {}

Calls* RedisExchange::calls() { return server_->calls(); }

flint_limiter* RedisExchange::limiter() { return calls()->limiter(); }

void RedisExchange::Send(const RedisReply& reply) {
  const std::string_view bytes = reply.bytes();
  const bool failed = bytes.starts_with('-');
  server_->counts()->Commanded(command_, failed ? bytes.substr(1, bytes.find(' ') - 1) : "OK");
  connection_->Answer(place_, bytes);
}

void RedisExchange::Fail(const Outcome& outcome) {
  if (outcome.code == FLINT_LIMITER_POISONED || outcome.code == FLINT_LIMITER_INTERNAL) {
    server_->log()->Warn("a command failed", {{"name", words_[0]}, {"why", outcome.message}});
  }
  Error(outcome.message, RedisCodeOf(outcome.code));
}

void RedisExchange::SendAndClose(const RedisReply& reply) {
  Send(reply);
  connection_->CloseBehindAnswers();
}

void RedisExchange::RunAside(Calls::Call call, std::function<void()> finish) {
  connection_->Hold();
  const auto self = shared_from_this();
  calls()->RunAside(std::move(call), [self, finish = std::move(finish)](const Outcome& outcome) {
    self->connection_->Release();
    self->Finish(outcome, finish);
  });
}

}  // namespace flint::server
