// The first use of a key in a segment: one short record where a template covers the key, and what
// readers make of it.

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine_testing.h"
#include "storage/file_names.h"
#include "storage/segment.h"
#include "storage/segment_scanner.h"

namespace flint {
namespace {

std::string KeyOf(int number) {
  char key[17];
  std::snprintf(key, sizeof(key), "user:%011d", number);
  return key;
}

std::vector<std::unique_ptr<SegmentReader>> Segments(FakeEnv* env) {
  std::vector<std::string> names;
  std::vector<std::unique_ptr<SegmentReader>> readers;
  EXPECT_TRUE(env->List(kDirectory, &names).ok());
  for (const std::string& name : names) {
    if (!IsSegmentName(name)) continue;
    std::unique_ptr<SegmentReader> reader;
    EXPECT_TRUE(SegmentReader::Open(env, kDirectory, name, &reader).ok()) << name;
    if (reader != nullptr && reader->started()) readers.push_back(std::move(reader));
  }
  return readers;
}

struct Written {
  std::map<RecordType, int> records;
  uint64_t bytes = 0;
  std::set<uint32_t> ids;  // that were given to keys
};

Written WrittenIn(SegmentReader* reader) {
  Written written;
  uint64_t position = reader->start().position;
  uint64_t sequence = reader->first_sequence();
  uint32_t crc = ChainStart(reader->header().generation);
  std::string_view bytes;
  Record record;
  while (reader->Bytes(position, &bytes).ok() &&
         ParseRecord(bytes, crc, reader->header().generation, sequence, position, &record)) {
    ++written.records[record.type];
    written.bytes += record.length;
    if (record.type == RecordType::kKey || record.type == RecordType::kKeyAllow) {
      written.ids.insert(record.id);
    }
    position = record.end();
    ++sequence;
    crc = record.crc;
  }
  return written;
}

// Of all segments.
Written WrittenIn(FakeEnv* env) {
  Written all;
  for (const auto& reader : Segments(env)) {
    const Written one = WrittenIn(reader.get());
    for (const auto& [type, count] : one.records) all.records[type] += count;
    all.bytes += one.bytes;
    all.ids.insert(one.ids.begin(), one.ids.end());
  }
  return all;
}

std::vector<HistoryEvent> HistoryOf(Engine* engine) {
  HistoryQuery query;
  query.capacity = 1024;
  query.text_bytes = 1 << 16;
  HistoryPage page;
  const Status status = engine->History(query, &page);
  EXPECT_TRUE(status.ok()) << status.message();
  return page.events;
}

class FirstUse : public ::testing::Test {
 protected:
  FirstUse() : machine_(false) {
    machine_.Open();
    Template(Hourly(10));
  }
  void Template(const LimitConfig& config) {
    ASSERT_TRUE(Configure(engine(), "user:", config, LimitKind::kTemplate).ok());
  }
  Engine* engine() { return machine_.engine.get(); }
  Written Close() {
    machine_.Close();
    return WrittenIn(machine_.env.get());
  }

  Machine machine_;
};

TEST_F(FirstUse, CostsAtMost70BytesOfTheLog) {
  constexpr int kKeys = 20'000;
  for (int i = 0; i < kKeys; ++i) {
    ASSERT_TRUE(Allowed(engine(), KeyOf(i)));
    if (i % 100 == 99) {
      ASSERT_TRUE(engine()->Flush().ok());
    }
  }
  const Written written = Close();
  EXPECT_LE(written.bytes, uint64_t{70} * kKeys);
  EXPECT_EQ(written.records.at(RecordType::kKeyAllow) + written.records.at(RecordType::kAllow),
            kKeys);
}

TEST_F(FirstUse, CanBeReadFromEachSegmentAlone) {
  constexpr int kKeys = 20'000;
  for (int i = 0; i < kKeys; ++i) {
    ASSERT_TRUE(Allowed(engine(), KeyOf(i), 1 + static_cast<uint64_t>(i) % 3));
  }
  Close();
  int next = 0;
  const auto segments = Segments(machine_.env.get());
  ASSERT_GE(segments.size(), 4U);
  std::map<uint64_t, SegmentReader*> in_order;
  for (const auto& reader : segments) in_order[reader->header().number] = reader.get();
  for (const auto& [number, reader] : in_order) {
    SegmentScanner scanner(reader, UINT64_MAX);
    ASSERT_TRUE(scanner.Begin().ok());
    HistoryEvent event;
    bool found = true;
    while (scanner.Next(&event, &found).ok() && found) {
      if (event.type != RecordType::kAllow) continue;
      const HistoryItem& item = event.items.at(0);
      EXPECT_EQ(item.key, KeyOf(next));
      EXPECT_EQ(item.cost, 1 + static_cast<uint64_t>(next) % 3);
      EXPECT_EQ(item.kind, LimitKind::kCounter);
      EXPECT_EQ(item.prefix_bytes, 5U);
      EXPECT_TRUE(item.config.SameAs(Hourly(10)));
      ++next;
    }
    EXPECT_FALSE(found);
  }
  EXPECT_EQ(next, kKeys);
}

TEST_F(FirstUse, ComesBackAfterEveryWayToEnd) {
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(Allowed(engine(), KeyOf(i), 3));
  for (int i = 0; i < 500; i += 2) ASSERT_TRUE(Allowed(engine(), KeyOf(i), 4));
  const std::string expected = DescribeAll(engine(), true);
  machine_.Kill();
  machine_.Open();
  EXPECT_EQ(DescribeAll(engine(), true), expected);
  ASSERT_TRUE(engine()->Flush().ok());
  machine_.LosePower(Loss::kDropAll);
  machine_.Open();
  EXPECT_EQ(DescribeAll(engine(), true), expected);
  ASSERT_TRUE(engine()->Compact({}).ok());
  machine_.Close();
  machine_.Open();
  EXPECT_EQ(DescribeAll(engine(), true), expected);
}

TEST_F(FirstUse, BehindAnOpeningGetsAnIdOfItsOwn) {
  ASSERT_TRUE(Allowed(engine(), "user:a", 1));
  ASSERT_TRUE(Allowed(engine(), "user:b", 2));
  machine_.Close();
  machine_.Open();
  ASSERT_TRUE(Allowed(engine(), "user:c", 3));
  ASSERT_TRUE(Allowed(engine(), "user:d", 4));
  const std::string expected = DescribeAll(engine(), true);
  machine_.Kill();
  machine_.Open();
  EXPECT_EQ(DescribeAll(engine(), true), expected);
  const Written written = Close();
  EXPECT_EQ(written.records.at(RecordType::kKey), 2);  // one for each opening
  EXPECT_EQ(written.records.at(RecordType::kKeyAllow), 2);
  EXPECT_EQ(written.ids.size(), 4U);
}

TEST_F(FirstUse, TellsTheConfigurationThatATemplateHadThen) {
  ASSERT_TRUE(Allowed(engine(), "user:a"));
  ASSERT_TRUE(Allowed(engine(), "user:b"));
  Template(Hourly(20));
  ASSERT_TRUE(Allowed(engine(), "user:c"));
  ASSERT_TRUE(Allowed(engine(), "user:d"));
  uint64_t ticket = 0;
  ASSERT_TRUE(engine()->Remove(LimitKind::kTemplate, "user:", {}, &ticket).ok());
  Template(Hourly(30));
  ASSERT_TRUE(Allowed(engine(), "user:e"));
  ASSERT_TRUE(Allowed(engine(), "user:f"));
  std::map<std::string, uint64_t> rates;
  for (const HistoryEvent& event : HistoryOf(engine())) {
    if (event.type == RecordType::kAllow) rates[event.items[0].key] = event.items[0].config.rate;
  }
  const std::map<std::string, uint64_t> expected = {{"user:a", 10}, {"user:b", 10}, {"user:c", 20},
                                                    {"user:d", 20}, {"user:e", 30}, {"user:f", 30}};
  EXPECT_EQ(rates, expected);
  const std::string all = DescribeAll(engine(), true);
  machine_.Kill();
  machine_.Open();
  EXPECT_EQ(DescribeAll(engine(), true), all);
}

TEST_F(FirstUse, OfAKeyWhoseFirstOneGotALimitOfItsOwn) {
  ASSERT_TRUE(Allowed(engine(), "user:a"));
  ASSERT_TRUE(Configure(engine(), "user:a", Hourly(50)).ok());
  ASSERT_TRUE(Allowed(engine(), "user:b", 7));  // the KEY of its template names one that has ended
  const std::string all = DescribeAll(engine(), true);
  machine_.Kill();
  machine_.Open();
  EXPECT_EQ(DescribeAll(engine(), true), all);
}

TEST_F(FirstUse, OfOtherLimitsHasAKeyOfItsOwn) {
  ASSERT_TRUE(Configure(engine(), "exact", Hourly(10)).ok());
  ASSERT_TRUE(Allowed(engine(), "exact"));
  const LimitConfig carried = Hourly(10);
  Engine::Decision decision;
  ASSERT_TRUE(engine()->Check({"inline", 1}, {}, &carried, &decision).ok());
  size_t denied = 0;
  Engine::Decision decisions[2];
  ASSERT_TRUE(engine()->CheckAll({{{"user:1", 1}, {"user:2", 1}}}, {}, decisions, &denied).ok());
  ASSERT_TRUE(Allowed(engine(), "user:3"));
  uint64_t ticket = 0;
  const Engine::Limit named{LimitKind::kTemplate, "ip:", Hourly(10), "hour"};
  ASSERT_TRUE(engine()->Configure(named, {}, &ticket).ok());
  ASSERT_TRUE(Allowed(engine(), "ip:1"));
  ASSERT_TRUE(Allowed(engine(), "ip:2"));
  const Written written = Close();
  EXPECT_EQ(written.records.at(RecordType::kKey), 6);
  EXPECT_EQ(written.records.at(RecordType::kKeyAllow), 1);  // of user:3
}

TEST_F(FirstUse, OfTheLongestKey) {
  const std::string longest = "user:" + std::string(65'530, 'x');
  ASSERT_TRUE(Allowed(engine(), "user:a"));
  machine_.Close();
  machine_.ring_bytes = 1 << 18;
  machine_.segment_bytes = 1 << 20;
  machine_.Open();
  ASSERT_TRUE(Allowed(engine(), "user:b"));
  ASSERT_TRUE(Allowed(engine(), longest, 9));
  machine_.Kill();
  machine_.Open();
  EXPECT_FALSE(Allowed(engine(), longest, 2));
  EXPECT_TRUE(Allowed(engine(), longest, 1));
}

// Of a log that this program would not write.
TEST_F(FirstUse, WithoutAKeyOfItsTemplateIsNotExplained) {
  SegmentHeader header;
  header.number = header.epoch = 1;
  header.generation = 7;
  header.capacity = 1 << 16;
  std::string log = EncodeSegmentHeader(header);
  uint32_t crc = ChainStart(header.generation);
  uint64_t sequence = 0;
  const auto add = [&](RecordType type, uint32_t id, std::string_view payload) {
    std::string record(RecordBytes(payload.size()), '\0');
    crc = BuildRecord(record.data(), crc, header.generation, ++sequence, type, 0, id, payload);
    log += record;
  };
  const auto first = [](std::string_view key, uint32_t prefix_bytes) {
    const KeyAllowPayload payload{1, 1, prefix_bytes, key};
    std::string bytes(EncodedBytes(payload), '\0');
    EncodeTo(bytes.data(), payload);
    return bytes;
  };
  add(RecordType::kStart, 0, Encode(StartPayload{}));
  KeyPayload key{Hourly(10), LimitKind::kCounter, 5, "user:a"};
  add(RecordType::kKey, 1, Encode(key));
  add(RecordType::kKeyAllow, 2, first("user:b", 5));
  const size_t offset = log.size();
  add(RecordType::kKeyAllow, 3, first("user:c", 4));
  FakeEnv env;
  ASSERT_TRUE(env.CreateDirectories(kDirectory).ok());
  env.SetContents(std::string(kDirectory) + "/flint.aof", log);
  std::unique_ptr<SegmentReader> reader;
  ASSERT_TRUE(SegmentReader::Open(&env, kDirectory, "flint.aof", &reader).ok());
  SegmentScanner scanner(reader.get(), UINT64_MAX);
  ASSERT_TRUE(scanner.Begin().ok());
  HistoryEvent event;
  bool found = false;
  ASSERT_TRUE(scanner.Next(&event, &found).ok());
  EXPECT_EQ(event.items.at(0).key, "user:b");
  const Status status = scanner.Next(&event, &found);
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_NE(status.message().find("offset " + std::to_string(offset)), std::string::npos)
      << status.message();
}

}  // namespace
}  // namespace flint
