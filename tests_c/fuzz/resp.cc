// The reader of a Redis server's replies: what it makes of bytes does not depend on how they were
// cut, and keeps to its bounds; and what replies mean is read from whatever they are.
#include "remote/resp.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "remote/protocol.h"

using flint::RespReader;
using flint::RespReply;

namespace {

constexpr RespReader::Bounds kBounds{1 << 16, 500, 8};

void Require(bool condition) {
  if (!condition) std::abort();
}

size_t Tell(const RespReply& reply, size_t depth, std::string* told) {
  Require(depth <= kBounds.depth + 1);
  const bool is_map = reply.type == RespReply::Type::kMap;
  Require(!is_map || reply.items.size() % 2 == 0);
  *told += std::to_string(static_cast<int>(reply.type)) + (reply.negative ? "-" : "+");
  *told += std::to_string(reply.number) + '"' + reply.text + "\" (";
  size_t values = 1;
  for (const RespReply& one : reply.items) values += Tell(one, depth + 1, told);
  *told += ")";
  return values;
}

struct Parts final : flint::Place::EachLimit {
  void Add(std::string_view name, const flint::Place::Decision& decision) override {
    Require(name.size() <= 255 && decision.each == nullptr);
  }
};

// Fails or reads, whatever it is.
void ReadAsEverything(const RespReply& reply) {
  Parts parts;
  flint::Place::Decision decisions[3];
  decisions[0].each = &parts;
  flint::Place::Answer answers[3];
  size_t denied = 0;
  flint::LimitStatus status;
  std::vector<flint::LimitStatus> statuses;
  flint::Place::Info info;
  flint::HistoryPage page;
  if (ReadDecision(reply, &decisions[0]).ok()) Require(decisions[0].limit_count <= 16);
  if (ReadDecisions(reply, 3, decisions, &denied).ok()) Require(denied <= 3);
  static_cast<void>(ReadAnswers(reply, answers));
  if (ReadLimitStatus(reply, &status).ok()) Require(status.name.size() <= 255);
  static_cast<void>(ReadLimitStatuses(reply, &statuses));
  static_cast<void>(ReadInfo(reply, &info));
  if (ReadHistoryPage(reply, &page).ok()) {
    for (const flint::HistoryEvent& event : page.events) Require(!event.items.empty());
  }
  static_cast<void>(ReadHello(reply));
}

// What one reader makes of bytes that come in parts of this size.
std::string Told(std::string_view bytes, size_t part_bytes) {
  RespReader reader;
  std::string told;
  while (!bytes.empty()) {
    size_t used = 0;
    const std::string_view part = bytes.substr(0, part_bytes);
    const RespReader::Event event = reader.Read(part, kBounds, &used);
    Require(used <= part.size());
    if (event == RespReader::Event::kRefused) return told + "! " + reader.refusal();
    if (event == RespReader::Event::kMore) Require(used == part.size());
    bytes.remove_prefix(used);
    if (event == RespReader::Event::kMore) continue;
    Require(Tell(reader.reply(), 0, &told) <= kBounds.values);
    ReadAsEverything(reader.reply());
    told += '\n';
  }
  return told;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string whole = Told(bytes, SIZE_MAX);
  Require(whole == Told(bytes, 1));
  Require(whole == Told(bytes, 1 + size / 3));
  return 0;
}
