// The parts of the server that know no network.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "decision.h"
#include "flint_limiter.h"
#include "http_reader.h"
#include "log_lines.h"
#include "options.h"
#include "rates.h"
#include "redis_reader.h"
#include "redis_reply.h"
#include "text.h"
#include "tokens.h"

namespace flint::server {
namespace {

TEST(Text, Periods) {
  uint64_t ns = 0;
  for (const auto& [text, expected] : std::vector<std::pair<std::string_view, uint64_t>>{
           {"1", 1'000'000'000},
           {" 20ms\n", 20'000'000},
           {"2m", 120'000'000'000},
           {"1h", 3'600'000'000'000},
           {"53375d", 53375ULL * 86'400'000'000'000},
       }) {
    EXPECT_TRUE(ReadPeriod(text, &ns)) << text;
    EXPECT_EQ(ns, expected) << text;
  }
  for (const std::string_view text :
       {"", "ms", "0", "1x", "-1", "+1", "1 s", "53376d", "99999999999999999999"}) {
    EXPECT_FALSE(ReadPeriod(text, &ns)) << text;
  }
}

TEST(Text, Times) {
  EXPECT_EQ(TimeText(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(TimeText(1'700'000'000'500'000'000), "2023-11-14T22:13:20.500Z");
  EXPECT_EQ(TimeText(1'700'000'000'000'500'000), "2023-11-14T22:13:20.000500Z");
  EXPECT_EQ(TimeText(1), "1970-01-01T00:00:00.000000001Z");
  EXPECT_EQ(TimeText(-1), "1969-12-31T23:59:59.999999999Z");
  EXPECT_EQ(TimeText(1'709'251'199'000'000'000), "2024-02-29T23:59:59Z");
  EXPECT_EQ(TimeText(std::numeric_limits<int64_t>::max()), "2262-04-11T23:47:16.854775807Z");
  EXPECT_EQ(TimeText(std::numeric_limits<int64_t>::min()), "1677-09-21T00:12:43.145224192Z");
  EXPECT_EQ(HttpDate(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
}

TEST(Text, Quoting) {
  EXPECT_EQ(Quoted("a\"\\\n\x01\x0b\x7f\xC3\xA4"), "\"a\\\"\\\\\\n\\u0001\\u000b\x7f\xC3\xA4\"");
  EXPECT_EQ(Quoted("\xFF\xED\xA0\x80x"), "\"\uFFFD\uFFFD\uFFFD\uFFFDx\"");
}

TEST(Text, PercentDecoding) {
  std::string decoded;
  EXPECT_TRUE(PercentDecode("a%2Fb%c3%A4+", &decoded));
  EXPECT_EQ(decoded, "a/b\xC3\xA4+");
  for (const std::string_view text : {"%", "%2", "%zz", "%ff", "%C3", "%ED%A0%80"}) {
    EXPECT_FALSE(PercentDecode(text, &decoded)) << text;
  }
  bool wrong = false;
  EXPECT_EQ(QueryValue("a=1&b=%20&c", "b", &wrong), " ");
  EXPECT_EQ(QueryValue("a=1&b=%20&c", "c", &wrong), "");
  EXPECT_EQ(QueryValue("a=1&b=%20&c", "d", &wrong), std::nullopt);
  EXPECT_FALSE(wrong);
  EXPECT_EQ(QueryValue("a=%x", "a", &wrong), std::nullopt);
  EXPECT_TRUE(wrong);
}

TEST(Options, Endpoints) {
  Endpoint endpoint;
  EXPECT_TRUE(ReadEndpoint("127.0.0.1:7878", Protocol::kHttp, &endpoint));
  EXPECT_TRUE(endpoint.loopback());
  EXPECT_TRUE(ReadEndpoint("[::1]:0", Protocol::kHttp, &endpoint));
  EXPECT_TRUE(endpoint.loopback());
  EXPECT_TRUE(ReadEndpoint("[::]:1", Protocol::kHttp, &endpoint));
  EXPECT_FALSE(endpoint.loopback());
  EXPECT_TRUE(ReadEndpoint("0.0.0.0:65535", Protocol::kHttp, &endpoint));
  EXPECT_FALSE(endpoint.loopback());
  for (const std::string_view text : {"", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                      "::1:1", "[127.0.0.1]:1", "localhost:1", "unix:"}) {
    EXPECT_FALSE(ReadEndpoint(text, Protocol::kHttp, &endpoint)) << text;
  }
}

TEST(Options, Tokens) {
  std::vector<Token> tokens;
  std::string error;
  EXPECT_TRUE(ReadTokens("# all\n\n a read\r\nb\tcheck\nc admin\nd", &tokens, &error));
  const Tokens all(tokens);
  EXPECT_EQ(all.Find("a"), Rights::kRead);
  EXPECT_EQ(all.Find("b"), Rights::kCheck);
  EXPECT_EQ(all.Find("c"), Rights::kAdmin);
  EXPECT_EQ(all.Find("d"), Rights::kAdmin);
  for (const std::string_view text : {"", "aa", "e", "read"}) {
    EXPECT_EQ(all.Find(text), std::nullopt) << text;
  }
  EXPECT_FALSE(ReadTokens("a write", &tokens, &error));
  EXPECT_EQ(error, "line 1: a token may read, check or admin, not \"write\"");
  tokens.clear();
  EXPECT_FALSE(ReadTokens("# nothing", &tokens, &error));
}

class NoCheck : public HttpReader::HeadCheck {
 public:
  void CheckHead(const HttpRequest& /*request*/, HttpRefusal* /*refusal*/) override {}
};

// What the reader makes of bytes that come `step` at a time: "method path body", or the refusal.
std::vector<std::string> Read(std::string_view bytes, size_t step) {
  NoCheck check;
  HttpReader reader(&check);
  std::vector<std::string> found;
  while (!bytes.empty()) {
    size_t used = 0;
    switch (reader.Read(bytes.substr(0, step), &used)) {
      case HttpReader::Event::kMore:
        break;
      case HttpReader::Event::kRequest: {
        const HttpRequest& request = reader.request();
        found.push_back(request.method + " " + request.path + " " + request.body);
        break;
      }
      case HttpReader::Event::kRefused:
        found.push_back(std::to_string(reader.refusal().status));
        return found;
    }
    bytes.remove_prefix(used);
  }
  return found;
}

TEST(HttpReader, ReadsTheSameHoweverItComes) {
  const std::string_view bytes =
      "\r\nPOST /a?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
      "GET http://h/b HTTP/1.0\r\nEmpty:\r\nConnection: keep-alive\r\n\r\n"
      "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "2;x=y\r\nde\r\n1\r\nf\r\n0\r\nTrailer: z\r\n\r\n"
      "GET /d HTTP/1.1\r\n\r\n";
  const std::vector<std::string> expected = {"POST /a abc", "GET /b ", "POST /c def", "400"};
  for (size_t step = 1; step <= bytes.size(); step++) EXPECT_EQ(Read(bytes, step), expected);
}

TEST(HttpReader, LoopbackHosts) {
  for (const std::string_view host :
       {"localhost", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:80"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
  for (const std::string_view host :
       {"", "localhost.a", "127.a", "128.0.0.1", "[::2]", "[::1", "[::1]a", "a:127.0.0.1"}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
}

TEST(HttpReader, Json) {
  for (const std::string_view type :
       {"application/json", "Application/JSON; charset=utf-8", "application/problem+json"}) {
    EXPECT_TRUE(IsJson(type)) << type;
  }
  for (const std::string_view type : {"", "text/plain", "application/jsonp", "application/+json"}) {
    EXPECT_FALSE(IsJson(type)) << type;
  }
}

// The test of flint.rates reads the same file.
nlohmann::json Vectors() {
  std::ifstream file(FLINT_RATES);
  return nlohmann::json::parse(file);
}

TEST(Rates, AreReadAsInPython) {
  const nlohmann::json vectors = Vectors();
  for (const auto& one : vectors.at("read")) {
    const auto text = one["text"].get<std::string>();
    std::vector<Rate> rates;
    RateError error;
    ASSERT_TRUE(ReadRates(text, {}, &rates, &error)) << text << ": " << error.why;
    auto shown = nlohmann::json::array();
    for (const Rate& rate : rates) {
      shown.push_back({rate.rate, rate.per_ns, rate.burst, AlgorithmName(rate.algorithm)});
    }
    EXPECT_EQ(shown, one["rates"]) << text;
    const SeveralRates several(rates);
    EXPECT_EQ(several.prefix, one["prefix"].get<std::string>());
    EXPECT_EQ(nlohmann::json(several.names), one["names"]);
  }
}

TEST(Rates, AreRefusedAsInPython) {
  const nlohmann::json vectors = Vectors();
  for (const auto& one : vectors.at("refused")) {
    const auto text = one["text"].get<std::string>();
    std::vector<Rate> rates;
    RateError error;
    EXPECT_FALSE(ReadRates(text, {}, &rates, &error)) << text;
    EXPECT_EQ(error.why, one["why"].get<std::string>()) << text;
    EXPECT_EQ(error.position, one["position"].get<size_t>()) << text;
  }
}

uint64_t TotalDenied(flint_limiter* limiter, std::string_view key) {
  flint_limiter_status_info status{};
  status.struct_size = sizeof status;
  EXPECT_EQ(flint_limiter_status(limiter, key.data(), key.size(), FLINT_LIMITER_KIND_EXACT, &status,
                                 nullptr),
            FLINT_LIMITER_OK);
  return status.total_denied;
}

const std::vector<Rate> kTwoRates = {{5, uint64_t{60} * 1'000'000'000},
                                     {1, uint64_t{3600} * 1'000'000'000}};

// A limiter that has a part of the set of these, as when a wait or a crash came between them.
flint_limiter* OpenWithAPart() {
  flint_limiter* limiter = nullptr;
  EXPECT_EQ(flint_limiter_open(":memory:", 8, nullptr, &limiter, nullptr), FLINT_LIMITER_OK);
  const SeveralRates several(kTwoRates);
  flint_limiter_config config = several.rates[0].config();
  config.kind = FLINT_LIMITER_KIND_TEMPLATE;
  config.key = several.prefix.data();
  config.key_bytes = several.prefix.size();
  config.name = several.names[0].data();
  config.name_bytes = several.names[0].size();
  EXPECT_EQ(flint_limiter_limit(limiter, &config, 0, nullptr, nullptr), FLINT_LIMITER_OK);
  return limiter;
}

TEST(Decisions, MakeASetWholeThatIsNot) {
  flint_limiter* limiter = OpenWithAPart();
  CarriedSets sets;
  std::vector<uint32_t> counts;
  std::vector<uint32_t> allowed;
  for (int i = 0; i < 3; i++) {
    Decision decision;
    decision.key = "k";
    decision.rates = kTwoRates;
    ASSERT_TRUE(decision.Decide(limiter, FLINT_LIMITER_NO_WAIT, &sets).ok());
    counts.push_back(decision.result.limit_count);
    allowed.push_back(decision.result.allowed);
  }
  EXPECT_EQ(counts, (std::vector<uint32_t>{1, 2, 2}));
  EXPECT_EQ(allowed, (std::vector<uint32_t>{1, 1, 0}));
  EXPECT_EQ(flint_limiter_close(&limiter, nullptr), FLINT_LIMITER_OK);
}

// Otherwise who may only check could have the server keep more of them than it should.
TEST(Decisions, CountASetThatTheyMakeWhole) {
  for (const bool together : {false, true}) {
    flint_limiter* limiter = OpenWithAPart();
    CarriedSets sets;
    for (uint64_t i = 1; i < CarriedSets::kMost; i++) sets.Add();
    ASSERT_FALSE(sets.full());
    Decision one;
    one.key = "k";
    one.rates = kTwoRates;
    Together all;
    all.items = {{"k", 1, kTwoRates}};
    const Outcome outcome =
        together ? all.Decide(limiter, 0, &sets) : one.Decide(limiter, 0, &sets);
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    EXPECT_TRUE(sets.full()) << together;
    EXPECT_EQ(flint_limiter_close(&limiter, nullptr), FLINT_LIMITER_OK);
  }
}

// What has been decided before an admission would have waited for the disk is not decided again.
TEST(Decisions, GoOnWhereTheyWouldHaveWaited) {
  std::string directory = ::testing::TempDir() + "decisions.XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  flint_limiter* limiter = nullptr;
  ASSERT_EQ(flint_limiter_open(directory.data(), directory.size(), nullptr, &limiter, nullptr),
            FLINT_LIMITER_OK);
  const Rate once{1, uint64_t{1} << 61U};
  CarriedSets sets;
  for (const bool parts : {false, true}) {
    Decision denied;
    denied.key = parts ? "parts" : "plain";
    denied.parts = parts;
    flint_limiter_config config = once.config();
    config.key = denied.key.data();
    config.key_bytes = denied.key.size();
    ASSERT_EQ(flint_limiter_limit(limiter, &config, 0, nullptr, nullptr), FLINT_LIMITER_OK);
    ASSERT_TRUE(denied.Decide(limiter, 0, &sets).ok());
    Decision admitted = denied;
    admitted.key += " too";
    config.key = admitted.key.data();
    config.key_bytes = admitted.key.size();
    ASSERT_EQ(flint_limiter_limit(limiter, &config, 0, nullptr, nullptr), FLINT_LIMITER_OK);

    Decisions decisions;
    decisions.asked = {denied, admitted, denied};
    const Outcome first = decisions.Decide(limiter, FLINT_LIMITER_NO_WAIT, &sets);
    ASSERT_EQ(first.code, FLINT_LIMITER_WOULD_BLOCK);
    ASSERT_TRUE(decisions.Decide(limiter, 0, &sets).ok());
    for (size_t i = 0; i < decisions.asked.size(); i++) {
      EXPECT_TRUE(decisions.outcomes[i].ok()) << decisions.outcomes[i].message;
      EXPECT_EQ(decisions.asked[i].result.allowed, i == 1 ? 1U : 0U);
    }
    EXPECT_EQ(TotalDenied(limiter, denied.key), 2U);
    EXPECT_EQ(TotalDenied(limiter, admitted.key), 0U);
  }
  flint_limiter_close(&limiter, nullptr);
  std::filesystem::remove_all(directory);
}

// A pipe that nobody can write to before somebody reads.
std::array<int, 2> FullPipe() {
  std::array<int, 2> ends{};
  EXPECT_EQ(pipe(ends.data()), 0);
  const int bytes = fcntl(ends[1], F_SETPIPE_SZ, 4096);
  const std::string filler(static_cast<size_t>(bytes), '.');
  EXPECT_EQ(write(ends[1], filler.data(), filler.size()), bytes);
  return ends;
}

// Reads on until `text` has so many lines, or one that says `last`.
void ReadLines(int fd, size_t lines, std::string_view last, std::string* text) {
  std::array<char, 4096> buffer{};
  for (size_t found = 0; found < lines;) {
    const ssize_t bytes = read(fd, buffer.data(), buffer.size());
    ASSERT_GT(bytes, 0);
    const std::string_view part(buffer.data(), static_cast<size_t>(bytes));
    found += static_cast<size_t>(std::count(part.begin(), part.end(), '\n'));
    text->append(part);
    const size_t tail = std::min<size_t>(text->size(), 200);
    if (text->ends_with('\n') && text->find(last, text->size() - tail) != std::string::npos) return;
  }
}

size_t Count(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) {
    count++;
  }
  return count;
}

TEST(Log, NobodyWaitsForAReader) {
  constexpr size_t kLogged = 3 * Log::kMaxLines;
  const auto [in, out] = FullPipe();
  {
    Log log(true, out);
    for (size_t i = 0; i < kLogged; i++) log.Info("a line", {{"value", std::string(2000, 'x')}});
    const uint64_t dropped = log.dropped();
    EXPECT_GE(dropped, kLogged - Log::kMaxLines - 1);  // one may have been on its way
    std::string text;
    ReadLines(in, 3, "the end", &text);
    log.Info("the end");  // for which there is room now
    ReadLines(in, SIZE_MAX, "the end", &text);
    EXPECT_EQ(log.dropped(), dropped);
    EXPECT_EQ(Count(text, "\"a line\""), kLogged - dropped);
    EXPECT_EQ(Count(text, std::string(Log::kMaxValueBytes, 'x') + "...\""), kLogged - dropped);
    EXPECT_GE(Count(text, "lines were dropped"), 1U);
  }
  close(in);
  close(out);
}

TEST(Text, Hex) {
  std::string bytes;
  EXPECT_EQ(Hex(std::string_view("\0\x7f\xff", 3)), "007fff");
  EXPECT_TRUE(ReadHex("007FfF", &bytes));
  EXPECT_EQ(bytes, std::string("\0\x7f\xff", 3));
  EXPECT_FALSE(ReadHex("0", &bytes));
  EXPECT_FALSE(ReadHex("0g", &bytes));
}

// ---- The Redis protocol ----------------------------------------------------------------------

// The requests in `bytes`, which come in two parts.
std::vector<std::vector<std::string>> ReadInTwo(std::string_view bytes, size_t cut) {
  RedisReader reader;
  std::vector<std::vector<std::string>> requests;
  for (std::string_view part : {bytes.substr(0, cut), bytes.substr(cut)}) {
    while (!part.empty()) {
      size_t used = 0;
      const RedisReader::Event event = reader.Read(part, &used, {});
      EXPECT_NE(event, RedisReader::Event::kRefused) << reader.refusal();
      part.remove_prefix(used);
      if (event == RedisReader::Event::kRequest) requests.push_back(reader.arguments());
      if (event == RedisReader::Event::kRefused) return requests;
    }
  }
  EXPECT_FALSE(reader.begun());
  return requests;
}

TEST(RedisReader, ReadsTheSameHoweverItComes) {
  const std::string bytes = "*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\nPING\r\n*1\r\n$0\r\n\r\n";
  const std::vector<std::vector<std::string>> expected = {{"ECHO", "a\r\n"}, {"PING"}, {""}};
  for (size_t cut = 0; cut <= bytes.size(); cut++) {
    EXPECT_EQ(ReadInTwo(bytes, cut), expected) << cut;
  }
}

TEST(RedisReader, KeepsToTheBoundsThatAreGiven) {
  const RedisReader::Bounds bounds = {2, 8};
  size_t used = 0;
  const auto read = [&](std::string_view bytes) {
    return RedisReader().Read(bytes, &used, bounds);
  };
  EXPECT_EQ(read("*2\r\n$4\r\nECHO\r\n$4\r\nabcd\r\n"), RedisReader::Event::kRequest);
  EXPECT_EQ(read("*2\r\n$4\r\nECHO\r\n$5\r\n"), RedisReader::Event::kRefused);
  EXPECT_EQ(read("*3\r\n"), RedisReader::Event::kRefused);
}

TEST(RedisReader, RefusesForGood) {
  RedisReader reader;
  size_t used = 0;
  EXPECT_EQ(reader.Read("*1\r\n$01\r\n", &used, {}), RedisReader::Event::kRefused);
  EXPECT_EQ(reader.Read("PING\r\n", &used, {}), RedisReader::Event::kRefused);
  EXPECT_EQ(reader.refusal(), "expected the length of a string");
}

TEST(RedisReply, BothVersions) {
  const auto shown = [](bool version_3) {
    RedisReply reply(version_3);
    reply.Map(2).Flag("a", true).Field("b", UINT64_MAX).Null().Error("ERR", "x\r\ny").Integer(-1);
    return reply.bytes();
  };
  EXPECT_EQ(shown(true),
            "%2\r\n$1\r\na\r\n#t\r\n$1\r\nb\r\n(18446744073709551615\r\n_\r\n-ERR x  y\r\n:-1\r\n");
  EXPECT_EQ(shown(false),
            "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$20\r\n18446744073709551615\r\n$-1\r\n"
            "-ERR x  y\r\n:-1\r\n");
}

}  // namespace
}  // namespace flint::server
