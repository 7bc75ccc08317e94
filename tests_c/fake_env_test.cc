#include "fake_env.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/coding.h"

namespace flint {
namespace {

// That it behaves like the real one while nothing goes wrong is shown in env_test.cc. Here is what
// it does when something does.

constexpr uint64_t kSeeds = 200;

class FakeEnvTest : public testing::Test {
 protected:
  FakeEnvTest() { EXPECT_TRUE(env_.CreateDirectories("/data").ok()); }

  std::unique_ptr<File> Open(const std::string& path, OpenMode mode = OpenMode::kReadWrite) {
    std::unique_ptr<File> file;
    const Status status = env_.OpenFile(path, mode, &file);
    EXPECT_TRUE(status.ok()) << status.message();
    return file;
  }
  // A file whose name and content are on the platter.
  std::unique_ptr<File> Durable(const std::string& path, const std::string& content) {
    env_.SetContents(path, content);
    return Open(path);
  }
  static void Write(File* file, uint64_t offset, const std::string& bytes) {
    EXPECT_TRUE(file->Write(offset, bytes.data(), bytes.size()).ok());
  }
  // What a file may hold after a power loss.
  std::set<std::string> Outcomes(const std::string& path) const {
    std::set<std::string> outcomes;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      outcomes.insert(env_.PowerLoss(Loss::kRandom, seed)->Contents(path));
    }
    return outcomes;
  }

  FakeEnv env_;
};

using Names = std::vector<std::string>;

const std::string kOld(512, 'o');
const std::string kNew(512, 'n');
const std::string kZero(512, '\0');

// ---- Power loss: content -----------------------------------------------------------------------

TEST_F(FakeEnvTest, UnsyncedContentMayBeLost) {
  const auto file = Durable("/data/f", kOld + kOld);
  Write(file.get(), 0, kNew + kNew);
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Contents("/data/f"), kOld + kOld);
  EXPECT_EQ(env_.PowerLoss(Loss::kKeepAll)->Contents("/data/f"), kNew + kNew);
  EXPECT_EQ(Outcomes("/data/f"),
            (std::set<std::string>{kOld + kOld, kOld + kNew, kNew + kOld, kNew + kNew}));
  EXPECT_EQ(env_.Contents("/data/f"), kNew + kNew);
}

TEST_F(FakeEnvTest, EitherSyncMakesContentDurable) {
  const auto file = Durable("/data/f", kOld);
  Write(file.get(), 0, kNew);
  ASSERT_TRUE(file->SyncData().ok());
  EXPECT_EQ(Outcomes("/data/f"), std::set<std::string>{kNew});
  Write(file.get(), 512, kOld);
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(Outcomes("/data/f"), std::set<std::string>{kNew + kOld});
}

TEST_F(FakeEnvTest, SectorsAreTornOnlyAtTheirEdges) {
  const auto file = Durable("/data/f", std::string(1024, 'o'));
  Write(file.get(), 500, std::string(24, 'n'));
  const std::string head = std::string(500, 'o') + std::string(12, 'n');
  const std::string tail = std::string(12, 'n') + std::string(500, 'o');
  EXPECT_EQ(Outcomes("/data/f"),
            (std::set<std::string>{kOld + kOld, head + kOld, kOld + tail, head + tail}));
}

TEST_F(FakeEnvTest, AnUnsyncedSizeMayBeLost) {
  const auto file = Durable("/data/f", kOld);
  Write(file.get(), 512, "new");
  const std::string zeros(3, '\0');
  EXPECT_EQ(Outcomes("/data/f"), (std::set<std::string>{kOld, kOld + zeros, kOld + "new"}));
  ASSERT_TRUE(file->SyncData().ok());
  ASSERT_TRUE(file->Truncate(1).ok());
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Contents("/data/f"), kOld + "new");
  EXPECT_EQ(env_.PowerLoss(Loss::kKeepAll)->Contents("/data/f"), "o");
  ASSERT_TRUE(file->SyncData().ok());
  EXPECT_EQ(Outcomes("/data/f"), std::set<std::string>{"o"});
}

TEST_F(FakeEnvTest, GarbageStandsOnlyWhereNothingHadBeenOnThePlatter) {
  const auto file = Durable("/data/f", kOld);
  Write(file.get(), 0, kNew + kNew);
  std::set<std::string> first;
  std::set<std::string> second;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const std::string content = env_.PowerLoss(Loss::kGarbage, seed)->Contents("/data/f");
    first.insert(content.substr(0, 512));
    if (content.size() > 512) second.insert(content.substr(512));
  }
  EXPECT_EQ(first, (std::set<std::string>{kOld, kNew}));
  EXPECT_GT(second.size(), 2u);
  EXPECT_EQ(second.count(kZero), 0u);
  EXPECT_EQ(second.count(kNew), 1u);
}

TEST_F(FakeEnvTest, WhatATruncationCutNeverComesBack) {
  const auto file = Durable("/data/f", kOld + kOld);
  ASSERT_TRUE(file->Truncate(512).ok());
  ASSERT_TRUE(file->SyncData().ok());
  ASSERT_TRUE(file->Truncate(1024).ok());
  ASSERT_TRUE(file->SyncData().ok());
  EXPECT_EQ(Outcomes("/data/f"), std::set<std::string>{kOld + kZero});
}

TEST_F(FakeEnvTest, ReservedSpaceNeedsASyncToo) {
  const auto file = Durable("/data/f", "");
  ASSERT_TRUE(file->Reserve(1024, true).ok());
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Contents("/data/f"), "");
  ASSERT_TRUE(file->SyncData().ok());
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Contents("/data/f"), kZero + kZero);
}

TEST_F(FakeEnvTest, StoresMayBeLostAtAnyTime) {
  std::unique_ptr<StoreFile> store;
  env_.SetContents("/data/ring", kOld + kOld);
  ASSERT_TRUE(env_.OpenStore("/data/ring", 1024, StoreMode::kMapped, &store).ok());
  store->Store(0, kNew.data(), kNew.size());
  store->StoreWord(512, Decode64(kNew.data()));
  const std::string second = kNew.substr(0, 8) + kOld.substr(8);
  EXPECT_EQ(Outcomes("/data/ring"),
            (std::set<std::string>{kOld + kOld, kOld + second, kNew + kOld, kNew + second}));
}

TEST_F(FakeEnvTest, TheKernelMayWriteBackOnItsOwn) {
  const auto file = Durable("/data/f", kOld + kOld);
  Write(file.get(), 0, kNew + kNew);
  std::set<std::string> outcomes;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const auto alive = env_.ProcessDeath();
    alive->Writeback(seed);
    EXPECT_EQ(alive->Contents("/data/f"), kNew + kNew);
    outcomes.insert(alive->PowerLoss(Loss::kDropAll)->Contents("/data/f"));
  }
  EXPECT_EQ(outcomes, (std::set<std::string>{kOld + kOld, kOld + kNew, kNew + kOld, kNew + kNew}));
}

TEST_F(FakeEnvTest, WritebackBeyondTheDurableSizeShowsOnceTheSizeIsDurable) {
  const auto file = Durable("/data/f", "");
  Write(file.get(), 0, kNew);
  for (uint64_t seed = 0; seed < 20; ++seed) env_.Writeback(seed);
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Contents("/data/f"), "");
  EXPECT_EQ(Outcomes("/data/f"), (std::set<std::string>{"", kNew}));
}

// ---- Power loss: names -------------------------------------------------------------------------

TEST_F(FakeEnvTest, NamesNeedADirectorySync) {
  const auto file = Open("/data/f", OpenMode::kCreate);
  Write(file.get(), 0, "content");
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Files(), Names{});
  EXPECT_EQ(env_.PowerLoss(Loss::kKeepAll)->Contents("/data/f"), "content");
  ASSERT_TRUE(env_.SyncDirectory("/data").ok());
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Contents("/data/f"), "content");
}

TEST_F(FakeEnvTest, ADurableNameDoesNotMakeContentDurable) {
  const auto file = Open("/data/f", OpenMode::kCreate);
  Write(file.get(), 0, "content");
  ASSERT_TRUE(env_.SyncDirectory("/data").ok());
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Files(), Names{"/data/f"});
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Contents("/data/f"), "");
}

TEST_F(FakeEnvTest, NameChangesSurviveInTheirOrder) {
  env_.SetContents("/data/a", "a");
  ASSERT_TRUE(env_.Link("/data/a", "/data/b").ok());
  ASSERT_TRUE(env_.Rename("/data/a", "/data/c").ok());
  ASSERT_TRUE(env_.Remove("/data/b").ok());
  std::set<Names> outcomes;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    outcomes.insert(env_.PowerLoss(Loss::kRandom, seed)->Files());
  }
  EXPECT_EQ(
      outcomes,
      (std::set<Names>{{"/data/a"}, {"/data/a", "/data/b"}, {"/data/b", "/data/c"}, {"/data/c"}}));
  ASSERT_TRUE(env_.SyncDirectory("/data").ok());
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Files(), Names{"/data/c"});
}

TEST_F(FakeEnvTest, ARenameReplacesOneFileByAnother) {
  env_.SetContents("/data/snapshot", "old");
  env_.SetContents("/data/new", "new");
  ASSERT_TRUE(env_.Rename("/data/new", "/data/snapshot").ok());
  EXPECT_EQ(env_.Contents("/data/snapshot"), "new");
  EXPECT_EQ(Outcomes("/data/snapshot"), (std::set<std::string>{"old", "new"}));
  ASSERT_TRUE(env_.SyncDirectory("/data").ok());
  EXPECT_EQ(Outcomes("/data/snapshot"), std::set<std::string>{"new"});
}

TEST_F(FakeEnvTest, LinksShareTheirContentAfterACrashToo) {
  env_.SetContents("/data/a", "old");
  ASSERT_TRUE(env_.Link("/data/a", "/data/b").ok());
  for (const auto& after : {env_.ProcessDeath(), env_.PowerLoss(Loss::kKeepAll)}) {
    std::unique_ptr<File> file;
    ASSERT_TRUE(after->OpenFile("/data/a", OpenMode::kReadWrite, &file).ok());
    Write(file.get(), 0, "new");
    EXPECT_EQ(after->Contents("/data/b"), "new");
  }
}

TEST_F(FakeEnvTest, OneDirectorysSyncLeavesTheOthersNames) {
  ASSERT_TRUE(env_.CreateDirectories("/other").ok());
  Open("/data/f", OpenMode::kCreate);
  Open("/other/g", OpenMode::kCreate);
  ASSERT_TRUE(env_.SyncDirectory("/other").ok());
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Files(), Names{"/other/g"});
}

TEST_F(FakeEnvTest, CreatedDirectoriesAndPermissionsAreDurable) {
  ASSERT_TRUE(env_.CreateDirectories("/data/a/b").ok());
  env_.SetMode("/data/a/b", 0777);
  const auto after = env_.PowerLoss(Loss::kDropAll);
  uint32_t mode = 0;
  ASSERT_TRUE(after->Mode("/data/a/b", &mode).ok());
  EXPECT_EQ(mode, 0777u);
  std::unique_ptr<File> file;
  EXPECT_TRUE(after->OpenFile("/data/a/b/f", OpenMode::kCreate, &file).ok());
}

// ---- The death of the process ------------------------------------------------------------------

TEST_F(FakeEnvTest, ThePageCacheOutlivesTheProcess) {
  const auto file = Durable("/data/f", kOld);
  Write(file.get(), 0, kNew);
  const auto after = env_.ProcessDeath();
  EXPECT_EQ(after->Contents("/data/f"), kNew);
  Write(file.get(), 0, kZero);
  EXPECT_EQ(after->Contents("/data/f"), kNew);
  // It is still only in the page cache.
  EXPECT_EQ(after->PowerLoss(Loss::kDropAll)->Contents("/data/f"), kOld);
  std::unique_ptr<File> again;
  ASSERT_TRUE(after->OpenFile("/data/f", OpenMode::kReadWrite, &again).ok());
  ASSERT_TRUE(again->SyncData().ok());
  EXPECT_EQ(after->PowerLoss(Loss::kDropAll)->Contents("/data/f"), kNew);
}

TEST_F(FakeEnvTest, UnsyncedNamesOutliveTheProcess) {
  Open("/data/f", OpenMode::kCreate);
  const auto after = env_.ProcessDeath();
  EXPECT_EQ(after->Files(), Names{"/data/f"});
  EXPECT_EQ(after->PowerLoss(Loss::kDropAll)->Files(), Names{});
  ASSERT_TRUE(after->SyncDirectory("/data").ok());
  EXPECT_EQ(after->PowerLoss(Loss::kDropAll)->Files(), Names{"/data/f"});
}

TEST_F(FakeEnvTest, LocksDieWithTheProcess) {
  std::unique_ptr<DirectoryLock> lock;
  ASSERT_TRUE(env_.LockDirectory("/data", &lock).ok());
  for (const auto& after : {env_.ProcessDeath(), env_.PowerLoss(Loss::kRandom)}) {
    std::unique_ptr<DirectoryLock> second;
    EXPECT_EQ(env_.LockDirectory("/data/", &second).code(), Code::kLocked);
    EXPECT_TRUE(after->LockDirectory("/data", &second).ok());
  }
}

// ---- Failed syncs ------------------------------------------------------------------------------

TEST_F(FakeEnvTest, ALaterSyncDoesNotRepairAFailedOne) {
  const auto file = Durable("/data/f", kOld + kOld);
  Write(file.get(), 0, kNew);
  env_.InjectFault({.matches = OnlyOps({Op::kSyncData})});
  EXPECT_EQ(file->SyncData().code(), Code::kIo);
  Write(file.get(), 512, kNew);
  ASSERT_TRUE(file->SyncData().ok());
  EXPECT_EQ(env_.Contents("/data/f"), kNew + kNew);
  EXPECT_EQ(env_.PowerLoss(Loss::kDropAll)->Contents("/data/f"), kOld + kNew);
  EXPECT_EQ(env_.PowerLoss(Loss::kKeepAll)->Contents("/data/f"), kOld + kNew);
  // The failed sync may have got that far before it failed.
  EXPECT_EQ(Outcomes("/data/f"), (std::set<std::string>{kOld + kNew, kNew + kNew}));
}

TEST_F(FakeEnvTest, RewritingWhatAFailedSyncLostHelps) {
  const auto file = Durable("/data/f", kOld);
  Write(file.get(), 0, kNew);
  env_.InjectFault({.matches = OnlyOps({Op::kSync})});
  EXPECT_FALSE(file->Sync().ok());
  Write(file.get(), 100, "n");
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(Outcomes("/data/f"), std::set<std::string>{kNew});
}

TEST_F(FakeEnvTest, TheNextProcessCannotTrustWhatAFailedSyncLeft) {
  const auto file = Durable("/data/f", kOld);
  Write(file.get(), 0, kNew);
  env_.InjectFault({.matches = OnlyOps({Op::kSync})});
  EXPECT_FALSE(file->Sync().ok());
  const auto after = env_.ProcessDeath();
  EXPECT_EQ(after->Contents("/data/f"), kNew);
  std::unique_ptr<File> again;
  ASSERT_TRUE(after->OpenFile("/data/f", OpenMode::kReadWrite, &again).ok());
  ASSERT_TRUE(again->Sync().ok());
  EXPECT_EQ(after->PowerLoss(Loss::kKeepAll)->Contents("/data/f"), kOld);
}

// ---- Faults ------------------------------------------------------------------------------------

TEST_F(FakeEnvTest, TheNthCallFails) {
  const auto file = Durable("/data/f", "");
  env_.InjectFault({.nth = 3, .error = ENOSPC});
  uint64_t size = 0;
  for (int call = 1; call <= 5; ++call) {
    const Status status = file->Size(&size);
    EXPECT_EQ(status.code(), call == 3 ? Code::kDiskFull : Code::kOk);
  }
  EXPECT_EQ(env_.faults_hit(), 1u);
}

TEST_F(FakeEnvTest, AllCallsFromTheNthOnFail) {
  const auto file = Durable("/data/f", "");
  env_.InjectFault({.nth = 2, .forever = true});
  uint64_t size = 0;
  for (int call = 1; call <= 5; ++call) EXPECT_EQ(file->Size(&size).ok(), call == 1);
  EXPECT_EQ(env_.faults_hit(), 4u);
  env_.ClearFault();
  EXPECT_TRUE(file->Size(&size).ok());
  env_.InjectFault({.nth = 9});
  EXPECT_EQ(env_.faults_hit(), 0u);
}

TEST_F(FakeEnvTest, FaultsTakeOnlyWhatTheyMatch) {
  const auto f = Durable("/data/f", "");
  const auto g = Durable("/data/g", "");
  env_.InjectFault({.nth = 2, .matches = [](Op op, const std::string& path) {
                      return op == Op::kSync && path == "/data/f";
                    }});
  for (const bool fails : {false, true, false}) {
    EXPECT_TRUE(f->SyncData().ok());
    EXPECT_TRUE(g->Sync().ok());
    EXPECT_EQ(f->Sync().ok(), !fails);
  }
}

TEST_F(FakeEnvTest, AFailedWriteMayBePartial) {
  const auto file = Durable("/data/f", "abcdef");
  for (const auto& [written_bytes, content] :
       std::map<size_t, std::string>{{0, "abcdef"}, {2, "XYcdef"}, {99, "XYZWef"}}) {
    env_.InjectFault({.written_bytes = written_bytes, .matches = OnlyOps({Op::kWrite})});
    EXPECT_FALSE(file->Write(0, "XYZW", 4).ok());
    EXPECT_EQ(env_.Contents("/data/f"), content);
  }
}

TEST_F(FakeEnvTest, OtherFailedCallsDoNothing) {
  const auto file = Durable("/data/f", "content");
  std::unique_ptr<File> opened;
  std::unique_ptr<StoreFile> store;
  std::unique_ptr<DirectoryLock> lock;
  bool exists = false;
  uint32_t mode = 0;
  uint64_t size = 0;
  size_t got = 99;
  char byte = 0;
  Names names;
  env_.InjectFault({.forever = true, .error = EACCES});
  const Status failures[] = {
      file->Reserve(100, true),
      file->Truncate(0),
      file->Size(&size),
      file->Read(0, &byte, 1, &got),
      env_.OpenFile("/data/f", OpenMode::kRead, &opened),
      env_.OpenFile("/data/new", OpenMode::kCreate, &opened),
      env_.OpenStore("/data/new", 4096, StoreMode::kMapped, &store),
      env_.Exists("/data/f", &exists),
      env_.List("/data", &names),
      env_.CreateDirectories("/data/new"),
      env_.SyncDirectory("/data"),
      env_.Rename("/data/f", "/data/new"),
      env_.Link("/data/f", "/data/new"),
      env_.Remove("/data/f"),
      env_.LockDirectory("/data", &lock),
      env_.Mode("/data/f", &mode),
      env_.Random(&byte, 1),
  };
  for (const Status& failure : failures) {
    EXPECT_EQ(failure.code(), Code::kPermission) << failure.message();
  }
  EXPECT_EQ(env_.faults_hit(), std::size(failures));
  EXPECT_EQ(got, 0u);
  EXPECT_EQ(opened, nullptr);
  EXPECT_EQ(env_.Files(), Names{"/data/f"});
  EXPECT_EQ(env_.Contents("/data/f"), "content");
  env_.ClearFault();
  EXPECT_TRUE(env_.LockDirectory("/data", &lock).ok());
}

TEST_F(FakeEnvTest, AFullDisk) {
  const auto file = Durable("/data/f", std::string(60, 'x'));
  env_.SetContents("/data/g", std::string(30, 'x'));
  ASSERT_TRUE(env_.Link("/data/g", "/data/h").ok());
  env_.SetCapacity(100);
  EXPECT_EQ(file->Reserve(71, true).code(), Code::kDiskFull);
  EXPECT_TRUE(file->Reserve(70, true).ok());
  EXPECT_EQ(file->Write(65, "0123456789", 10).code(), Code::kDiskFull);
  EXPECT_EQ(env_.Contents("/data/f"), std::string(60, 'x') + std::string(5, '\0') + "01234");
  Write(file.get(), 0, std::string(70, 'y'));
  std::unique_ptr<StoreFile> store;
  EXPECT_EQ(env_.OpenStore("/data/ring", 8, StoreMode::kMapped, &store).code(), Code::kDiskFull);
  ASSERT_TRUE(env_.Remove("/data/g").ok());
  EXPECT_EQ(file->Reserve(71, true).code(), Code::kDiskFull);
  ASSERT_TRUE(env_.Remove("/data/h").ok());
  EXPECT_TRUE(file->Reserve(71, true).ok());
  EXPECT_EQ(env_.ProcessDeath()->OpenStore("/data/ring", 64, StoreMode::kMapped, &store).code(),
            Code::kDiskFull);
}

// ---- Watching ----------------------------------------------------------------------------------

TEST_F(FakeEnvTest, TheHookSeesEveryOperationBeforeItHappens) {
  std::vector<std::pair<Op, std::string>> seen;
  Names contents;
  env_.SetHook([&](Op op, const std::string& path) {
    seen.emplace_back(op, path);
    contents.push_back(env_.ProcessDeath()->Contents("/data/f"));
  });
  const uint64_t calls = env_.calls();
  const auto file = Open("/data/f", OpenMode::kCreate);
  Write(file.get(), 0, "a");
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_EQ(env_.calls(), calls + 3);
  std::unique_ptr<StoreFile> store;
  EXPECT_TRUE(env_.OpenStore("/data/f", 8, StoreMode::kMapped, &store).ok());
  store->Store(0, "b", 1);
  store->StoreWord(0, 0);
  EXPECT_EQ(env_.calls(), calls + 4);
  using Seen = std::vector<std::pair<Op, std::string>>;
  EXPECT_EQ(seen, (Seen{{Op::kCreate, "/data/f"},
                        {Op::kWrite, "/data/f"},
                        {Op::kSync, "/data/f"},
                        {Op::kOpenStore, "/data/f"},
                        {Op::kStore, "/data/f"},
                        {Op::kStoreWord, "/data/f"}}));
  const std::string zeros(7, '\0');
  EXPECT_EQ(contents, (Names{"", "", "a", "a", "a" + zeros, "b" + zeros}));
}

TEST_F(FakeEnvTest, RandomBytesComeFromTheSeed) {
  const auto bytes = [](FakeEnv& env) {
    std::string made(32, '\0');
    EXPECT_TRUE(env.Random(made.data(), made.size()).ok());
    return made;
  };
  FakeEnv same;
  FakeEnv other(2);
  const std::string first = bytes(env_);
  EXPECT_EQ(bytes(same), first);
  EXPECT_NE(bytes(other), first);
  // A restart goes on where the disk was, so that ids do not repeat.
  EXPECT_NE(bytes(*env_.ProcessDeath()), first);
  const auto after = env_.ProcessDeath();
  EXPECT_EQ(bytes(*after), bytes(env_));
}

TEST_F(FakeEnvTest, ThreadsShareTheDisk) {
  constexpr int kWrites = 200;
  std::vector<std::thread> threads;
  for (char name = 'a'; name < 'd'; ++name) {
    threads.emplace_back([this, name] {
      const std::string path = std::string("/data/") + name;
      const auto file = Open(path, OpenMode::kCreate);
      for (uint64_t i = 0; i < kWrites; ++i) {
        Write(file.get(), i, std::string(1, name));
        EXPECT_TRUE(file->SyncData().ok());
      }
      EXPECT_TRUE(env_.SyncDirectory("/data").ok());
    });
  }
  for (int i = 0; i < 20; ++i) {
    const auto image = env_.PowerLoss(Loss::kRandom, static_cast<uint64_t>(i));
    for (const std::string& path : image->Files()) {
      // The last byte may be unsynced: its sector may be lost while the new size is kept.
      std::string synced = image->Contents(path);
      if (!synced.empty()) synced.pop_back();
      EXPECT_EQ(synced, std::string(synced.size(), path.back()));
    }
  }
  for (std::thread& thread : threads) thread.join();
  const auto image = env_.PowerLoss(Loss::kDropAll);
  for (char name = 'a'; name < 'd'; ++name) {
    EXPECT_EQ(image->Contents(std::string("/data/") + name), std::string(kWrites, name));
  }
}

}  // namespace
}  // namespace flint
