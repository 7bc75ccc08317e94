#include "redis_commands.h"

#include <algorithm>
#include <array>

#include "server.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr size_t kAny = RedisReader::kMaxArguments;
constexpr size_t kMaxClientNameBytes = 255;

// ---- The connection --------------------------------------------------------------------------

void Ping(const Asked& asked) {
  const auto& words = asked->words();
  RedisReply reply = asked->Reply();
  asked->Send(words.size() > 1 ? reply.Text(words[1]) : reply.Simple("PONG"));
}

void Echo(const Asked& asked) { asked->Send(asked->Reply().Text(asked->words()[1])); }

void Quit(const Asked& asked) { asked->SendAndClose(asked->Reply().Simple("OK")); }

bool Authenticate(const Asked& asked, std::string_view user, std::string_view token) {
  // Without a password Redis lets its default user in with any.
  if (!asked->server()->tokens().required() && user == "default") return true;
  if (asked->session()->Authenticate(user, token)) return true;
  asked->Error("the user is default, and the password one of the server's tokens", "WRONGPASS");
  return false;
}

void Auth(const Asked& asked) {
  const auto& words = asked->words();
  const bool named = words.size() == 3;
  if (!named && !asked->server()->tokens().required()) {
    // As Redis says it: clients know this text, and go on.
    asked->Error(
        "AUTH <password> called without any password configured for the default user. Are you "
        "sure your configuration is correct?");
    return;
  }
  if (Authenticate(asked, named ? words[1] : "default", words.back())) asked->Ok();
}

bool SetName(const Asked& asked, const std::string& name) {
  const bool fits =
      name.size() <= kMaxClientNameBytes &&
      std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (fits) {
    asked->session()->client_name = name;
  } else {
    asked->Error("a client's name has no blanks, nothing but ASCII, and at most 255 bytes");
  }
  return fits;
}

void AnswerHello(const Asked& asked) {
  asked->SpeakVersion3(asked->session()->version_3);
  asked->Send(asked->Reply()
                  .Map(6)
                  .Word("server", "flint")
                  .Word("version", flint_limiter_version())
                  .Field("proto", asked->session()->version_3 ? 3 : 2)
                  .Field("id", asked->session()->id)
                  .Word("mode", "standalone")
                  .Word("role", "master"));
}

// HELLO [2|3 [AUTH USER TOKEN] [SETNAME NAME]]
void Hello(const Asked& asked) {
  const auto& words = asked->words();
  RedisSession* const session = asked->session();
  if (words.size() > 1 && words[1] != "2" && words[1] != "3") {
    asked->Error("unsupported protocol version", "NOPROTO");
    return;
  }
  size_t auth = 0;
  size_t name = 0;
  for (size_t at = 2; at < words.size();) {
    if (EqualFold(words[at], "AUTH") && at + 2 < words.size()) {
      auth = at + 1;
      at += 3;
    } else if (EqualFold(words[at], "SETNAME") && at + 1 < words.size()) {
      name = at + 1;
      at += 2;
    } else {
      asked->Error("HELLO takes a version, AUTH with user and token, and SETNAME with a name");
      return;
    }
  }
  if (auth != 0 && !Authenticate(asked, words[auth], words[auth + 1])) return;
  if (!session->rights()) {
    asked->Error("HELLO needs AUTH with user and token here", "NOAUTH");
    return;
  }
  if (name != 0 && !SetName(asked, words[name])) return;
  if (words.size() > 1) session->version_3 = words[1] == "3";
  AnswerHello(asked);
}

void Client(const Asked& asked) {
  const auto& words = asked->words();
  RedisSession* const session = asked->session();
  const auto is = [&](std::string_view name, size_t count) {
    return EqualFold(words[1], name) && words.size() == count;
  };
  if (is("SETNAME", 3)) {
    if (SetName(asked, words[2])) asked->Ok();
  } else if (is("SETINFO", 4)) {
    asked->Ok();
  } else if (is("GETNAME", 2)) {
    RedisReply reply = asked->Reply();
    const std::string& name = session->client_name;
    asked->Send(name.empty() ? reply.Null() : reply.Text(name));
  } else if (is("ID", 2)) {
    asked->Send(asked->Reply().Whole(session->id));
  } else {
    asked->Error("CLIENT takes SETNAME name, SETINFO attribute value, GETNAME or ID");
  }
}

void Select(const Asked& asked) {
  if (asked->words()[1] == "0") {
    asked->Ok();
  } else {
    asked->Error("there is one database here, 0");
  }
}

// Clients choose by Redis's version what they may say; it is that of the server whose HELLO,
// CLIENT and COMMAND these are.
void Info(const Asked& asked) {
  const std::string text = std::string("# Server\r\nredis_version:7.2.0\r\nflint_version:") +
                           flint_limiter_version() +
                           "\r\nredis_mode:standalone\r\nloading:0\r\n"
                           "# Replication\r\nrole:master\r\n";
  asked->Send(asked->Reply().Text(text));
}

void Command(const Asked& asked);

constexpr auto R = Rights::kRead;
constexpr auto C = Rights::kCheck;
constexpr auto A = Rights::kAdmin;
constexpr std::string_view kThrottle = "key max_burst count_per_period period_s [quantity]";
constexpr std::string_view kDecision =
    "key [COST n] [LIMIT words | RATE n PER period [BURST n] [ALGORITHM name] [KEEP]] [REFUSE] "
    "[LIMITS]";
constexpr std::string_view kTarget = "key [NAME name | UNNAMED] [EXACT]";
constexpr std::string_view kItems = "key cost [LIMIT words] [key cost [LIMIT words] ...]";

constexpr std::array kCommands = {
    RedisCommand{"PING", "[message]", 1, 2, R, false, false, Ping},
    RedisCommand{"ECHO", "message", 2, 2, R, false, false, Echo},
    RedisCommand{"QUIT", "", 1, 1, R, true, false, Quit},
    RedisCommand{"AUTH", "[user] token", 2, 3, R, true, false, Auth},
    RedisCommand{"HELLO", "[2|3 [AUTH user token] [SETNAME name]]", 1, 7, R, true, false, Hello},
    RedisCommand{"CLIENT", "SETNAME name|SETINFO attribute value|GETNAME|ID", 2, 4, R, false, false,
                 Client},
    RedisCommand{"SELECT", "0", 2, 2, R, false, false, Select},
    RedisCommand{"COMMAND", "[COUNT|DOCS|LIST|INFO [name ...]]", 1, kAny, R, false, false, Command},
    RedisCommand{"INFO", "[section]", 1, kAny, R, false, false, Info},
    RedisCommand{"CL.THROTTLE", kThrottle, 5, 6, C, false, true, RedisClThrottle},
    RedisCommand{"THROTTLE", kThrottle, 5, 6, C, false, true, RedisThrottle},
    RedisCommand{"FLINT.CHECK", kDecision, 2, 15, C, false, true, RedisCheck},
    RedisCommand{"FLINT.PEEK", kDecision, 2, 14, R, false, false, RedisPeek},
    RedisCommand{"FLINT.CHECKALL", kItems, 3, kAny, C, false, true, RedisCheckAll},
    RedisCommand{"FLINT.CHECKMANY", kItems, 3, kAny, C, false, true, RedisCheckMany},
    RedisCommand{
        "FLINT.LIMIT",
        "key LIMIT words | RATE n PER period [BURST n] [ALGORITHM name] [NAME name] [STACK] [NX] "
        "[EXACT]",
        4, 15, A, false, true, RedisLimit},
    RedisCommand{"FLINT.LIMITMANY",
                 "NX|XX exact|template key name rate per_ns burst algorithm STACK|ALONE [...]", 10,
                 kAny, A, false, true, RedisLimitMany},
    RedisCommand{"FLINT.RESET", kTarget, 2, 5, A, false, true, RedisReset},
    RedisCommand{"FLINT.REMOVE", kTarget, 2, 5, A, false, true, RedisRemove},
    RedisCommand{"FLINT.STATUS", "key [NAME name] [EXACT]", 2, 5, R, false, false, RedisStatus},
    RedisCommand{"FLINT.LIST", "[CURSOR cursor] [COUNT n] [COUNTERS] [KEY key]", 1, 8, R, false,
                 false, RedisList},
    RedisCommand{"FLINT.TOP", "[BY denied|allowed|denied_cost|allowed_cost] [COUNT n] [NOCOUNTERS]",
                 1, 6, R, false, false, RedisTop},
    RedisCommand{"FLINT.HISTORY",
                 "[KEY key] [SINCE ns] [UNTIL ns] [COUNT n] [CURSOR n] [BYTES n] [NEWEST] [EXACT]",
                 1, 15, R, false, false, RedisHistory},
    RedisCommand{"FLINT.FLUSH", "", 1, 1, A, false, true, RedisFlush},
    RedisCommand{"FLINT.COMPACT", "[NOWAIT]", 1, 2, A, false, true, RedisCompact},
    RedisCommand{"FLINT.INFO", "", 1, 1, R, false, false, RedisFlintInfo},
    RedisCommand{"FLINT.DOCTOR", "", 1, 1, R, false, false, RedisDoctor},
};

// As Redis tells it: name, words, flags, where keys stand, category, and three lists that are empty
// here.
void Describe(const RedisCommand& command, RedisReply* reply) {
  const auto words = static_cast<int64_t>(command.least);
  const bool key = command.arguments.starts_with("key");
  const bool many = command.arguments == kItems;
  reply->Array(10).Text(command.name).Integer(command.least == command.most ? words : -words);
  reply->Array(2).Simple(command.writes ? "write" : "readonly").Simple("fast");
  reply->Integer(key ? 1 : 0).Integer(many ? -1 : key ? 1 : 0).Integer(many ? 2 : key ? 1 : 0);
  reply->Array(1).Simple(command.writes ? "@write" : "@read").Array(0).Array(0).Array(0);
}

void Command(const Asked& asked) {
  const auto& words = asked->words();
  const auto is = [&](std::string_view name) { return EqualFold(words[1], name); };
  RedisReply reply = asked->Reply();
  if (words.size() == 1 || (is("INFO") && words.size() == 2)) {
    reply.Array(kCommands.size());
    for (const RedisCommand& one : kCommands) Describe(one, &reply);
  } else if (is("COUNT") && words.size() == 2) {
    reply.Whole(kCommands.size());
  } else if (is("LIST") && words.size() == 2) {
    reply.Array(kCommands.size());
    for (const RedisCommand& one : kCommands) reply.Text(one.name);
  } else if (is("INFO")) {
    reply.Array(words.size() - 2);
    for (size_t i = 2; i < words.size(); i++) {
      const RedisCommand* const one = FindRedisCommand(words[i]);
      if (one == nullptr) {
        reply.Null();
      } else {
        Describe(*one, &reply);
      }
    }
  } else if (is("DOCS")) {
    const auto wanted = [&](const RedisCommand& one) {
      bool found = words.size() == 2;
      for (size_t i = 2; i < words.size(); i++) found |= FindRedisCommand(words[i]) == &one;
      return found;
    };
    size_t count = 0;
    for (const RedisCommand& one : kCommands) count += wanted(one) ? 1 : 0;
    reply.Map(count);
    for (const RedisCommand& one : kCommands) {
      if (wanted(one)) reply.Text(one.name).Map(1).Word("summary", one.arguments);
    }
  } else {
    asked->Error("COMMAND takes COUNT, DOCS, LIST or INFO");
    return;
  }
  asked->Send(reply);
}

}  // namespace

const RedisCommand* FindRedisCommand(std::string_view name) {
  for (const RedisCommand& one : kCommands) {
    if (EqualFold(one.name, name)) return &one;
  }
  return nullptr;
}

// ---- Words behind a command ------------------------------------------------------------------

bool ReadRedisOptions(const Asked& asked, size_t first,
                      std::initializer_list<RedisOption> options) {
  const auto& words = asked->words();
  for (size_t at = first; at < words.size(); at++) {
    const RedisOption* found = nullptr;
    for (const RedisOption& one : options) {
      if (EqualFold(one.name, words[at])) found = &one;
    }
    if (found != nullptr && found->flag != nullptr) {
      *found->flag = true;
    } else if (found != nullptr && at + 1 < words.size() && !words[at + 1].empty()) {
      *found->value = words[++at];
    } else {
      const RedisCommand* const command = FindRedisCommand(words[0]);
      const std::string wrong = found == nullptr ? " is not known" : " needs a value";
      asked->Error("the option " + Quoted(words[at].substr(0, 64)) + wrong + "; usage: " +
                   std::string(command->name) + " " + std::string(command->arguments));
      return false;
    }
  }
  return true;
}

bool ReadRedisNumber(const Asked& asked, std::string_view name, const std::string& text,
                     uint64_t* to) {
  if (ReadWhole(text, to)) return true;
  asked->Error(std::string(name) + " must be a whole number from 0 to 2^64 - 1, not " +
               Quoted(text.substr(0, 64)));
  return false;
}

bool ReadRedisWords(const Asked& asked, const std::string& text, std::vector<Rate>* rates) {
  RateError error;
  if (ReadRatesOrName(text, Rate(), asked->server()->rate_names(), rates, &error)) return true;
  asked->Error(error.whole ? error.why
                           : "the limit is wrong at character " +
                                 std::to_string(error.position + 1) + ": " + error.why);
  return false;
}

bool RedisQuantities::Read(const Asked& asked, Rate* limit) const {
  if (rate.empty() || per.empty()) {
    asked->Error("a limit needs RATE and PER");
    return false;
  }
  if (!ReadRedisNumber(asked, "RATE", rate, &limit->rate) ||
      !ReadRedisOptional(asked, "BURST", burst, &limit->burst)) {
    return false;
  }
  const bool in_ns = per.ends_with("ns");
  if (in_ns ? !ReadWhole(per.substr(0, per.size() - 2), &limit->per_ns)
            : !ReadPeriod(per, &limit->per_ns)) {
    asked->Error("PER must be digits with ns, ms, s, m, h or d, not " + Quoted(per.substr(0, 64)));
    return false;
  }
  if (!algorithm.empty() && !ReadAlgorithm(algorithm, &limit->algorithm)) {
    asked->Error("unsupported algorithm: " + Quoted(algorithm.substr(0, 64)));
    return false;
  }
  return true;
}

}  // namespace flint::server
