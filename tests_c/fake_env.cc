#include "fake_env.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace flint {
namespace {

constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kAnywhere = UINT64_MAX;

uint64_t SectorsOf(uint64_t bytes) { return (bytes + kSectorBytes - 1) / kSectorBytes; }

// "/a//b/" -> "/a/b"; "/" and "." stay.
std::string Clean(const std::string& path) {
  std::string clean;
  for (const char c : path) {
    if (c != '/' || clean.empty() || clean.back() != '/') clean.push_back(c);
  }
  if (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  return clean;
}

// Of a clean path.
std::string Parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool IsRoot(const std::string& path) { return path == "/" || path == "."; }

bool IsByChance(Loss loss) {
  return loss == Loss::kRandom || loss == Loss::kUnordered || loss == Loss::kGarbage;
}

bool Survives(Loss loss, std::mt19937_64* random) {
  if (IsByChance(loss)) return ((*random)() & 1) != 0;
  return loss == Loss::kKeepAll;
}

}  // namespace

// A file or directory: its content in the page cache, and what of it is on the platter.
struct FakeEnv::Inode {
  enum class Sector : uint8_t {
    kClean,
    kDirty,  // differs from the platter, the next sync writes it
    kLost,   // differs from the platter because a sync failed; no later one writes it
  };

  bool is_directory = false;
  uint32_t mode = 0600;
  std::string current;
  std::string platter;        // longer than durable_size where sectors were written ahead of it
  uint64_t durable_size = 0;  // the file's length on the platter
  std::vector<Sector> sectors;

  void MarkDirty(uint64_t from, uint64_t to) {
    if (sectors.size() < SectorsOf(to)) sectors.resize(SectorsOf(to), Sector::kClean);
    for (uint64_t i = from / kSectorBytes; i < SectorsOf(to); ++i) sectors[i] = Sector::kDirty;
  }

  void Resize(uint64_t size) {
    const uint64_t old_size = current.size();
    current.resize(size);
    MarkDirty(std::min(old_size, size), std::max(old_size, size));
  }

  void Write(uint64_t offset, const void* data, uint64_t size) {
    if (offset + size > current.size()) Resize(offset + size);
    if (size > 0) std::memcpy(current.data() + offset, data, size);
    MarkDirty(offset, offset + size);
  }

  // Writes the blocks of these bytes as they are.
  void RewriteBlocks(uint64_t from, uint64_t to) {
    const uint64_t end = (to + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    MarkDirty(from - from % kBlockBytes, std::min<uint64_t>(end, current.size()));
  }

  void WriteSector(uint64_t i) {
    const uint64_t from = i * kSectorBytes;
    if (platter.size() < from + kSectorBytes) platter.resize(from + kSectorBytes);
    std::fill_n(platter.begin() + static_cast<std::ptrdiff_t>(from), kSectorBytes, '\0');
    if (from < current.size()) current.copy(platter.data() + from, kSectorBytes, from);
    sectors[i] = Sector::kClean;
  }

  void Sync() {
    for (uint64_t i = 0; i < sectors.size(); ++i) {
      if (sectors[i] == Sector::kDirty) WriteSector(i);
    }
    durable_size = current.size();
  }

  void FailSync() { std::replace(sectors.begin(), sectors.end(), Sector::kDirty, Sector::kLost); }

  void Writeback(std::mt19937_64* random) {
    for (uint64_t i = 0; i < sectors.size(); ++i) {
      if (sectors[i] == Sector::kDirty && Survives(Loss::kRandom, random)) WriteSector(i);
    }
  }

  InodePtr AfterPowerLoss(Loss loss, std::mt19937_64* random) const {
    auto after = std::make_shared<Inode>();
    after->is_directory = is_directory;
    after->mode = mode;
    uint64_t size = durable_size;
    if (current.size() != durable_size && Survives(loss, random)) size = current.size();
    after->current.resize(size);
    for (uint64_t i = 0; i < SectorsOf(size); ++i) {
      const Sector sector = i < sectors.size() ? sectors[i] : Sector::kClean;
      const bool may_survive =
          sector == Sector::kDirty || (sector == Sector::kLost && IsByChance(loss));
      const bool survives = may_survive && Survives(loss, random);
      const std::string& from = survives ? current : platter;
      const uint64_t at = i * kSectorBytes;
      const uint64_t end = std::min(at + kSectorBytes, size);
      if (loss == Loss::kGarbage && !survives && at >= durable_size) {
        for (uint64_t k = at; k < end; ++k) after->current[k] = static_cast<char>((*random)());
      } else if (at < from.size()) {
        from.copy(after->current.data() + at, end - at, at);
      }
    }
    after->platter = after->current;
    after->durable_size = size;
    return after;
  }
};

class FakeEnv::FakeFile final : public File {
 public:
  FakeFile(FakeEnv* env, std::string path, InodePtr inode, bool writable)
      : env_(env), path_(std::move(path)), inode_(std::move(inode)), writable_(writable) {}

  Status Read(uint64_t offset, void* buffer, size_t size, size_t* got) override {
    *got = 0;
    const Call call = env_->Enter(Op::kRead, path_);
    if (call.error != 0) return Failure(call.error, "cannot read ");
    const std::string& content = inode_->current;
    if (size > 0 && offset < content.size()) {
      *got = content.copy(static_cast<char*>(buffer), size, offset);
    }
    return Status();
  }

  void ExpectAppends(uint64_t end) override { appended_ = end; }

  Status Write(uint64_t offset, const void* data, size_t size) override {
    const Call call = env_->Enter(Op::kWrite, path_);
    if (appended_ != kAnywhere && offset != appended_) std::abort();  // it had been promised
    uint64_t possible = size;
    int error = writable_ ? call.error : EBADF;
    if (error != 0) {
      possible = std::min(size, call.written_bytes);
    } else if (!env_->HasRoom(inode_->current.size(), offset + size)) {
      error = ENOSPC;
      possible = inode_->current.size() > offset ? inode_->current.size() - offset : 0;
    }
    if (possible > 0) inode_->Write(offset, data, possible);
    if (error != 0) return Failure(error, "cannot write ");
    if (appended_ != kAnywhere) {
      appended_ = offset + size;
      inode_->RewriteBlocks(offset, appended_);
    }
    return Status();
  }

  Status Reserve(uint64_t size, bool) override {
    const Call call = env_->Enter(Op::kReserve, path_);
    const int error = writable_ ? call.error : EBADF;
    if (error != 0) return Failure(error, "cannot reserve space for ");
    if (size <= inode_->current.size()) return Status();
    if (!env_->HasRoom(inode_->current.size(), size)) {
      return Failure(ENOSPC, "cannot reserve space for ");
    }
    inode_->Resize(size);
    return Status();
  }

  Status Truncate(uint64_t size) override {
    const Call call = env_->Enter(Op::kTruncate, path_);
    const int error = writable_ ? call.error : EINVAL;
    if (error != 0) return Failure(error, "cannot truncate ");
    inode_->Resize(size);
    return Status();
  }

  Status Size(uint64_t* size) override {
    const Call call = env_->Enter(Op::kSize, path_);
    if (call.error != 0) return Failure(call.error, "cannot examine ");
    *size = inode_->current.size();
    return Status();
  }

  Status SyncData() override { return SyncAs(Op::kSyncData); }
  Status Sync() override { return SyncAs(Op::kSync); }

 private:
  Status SyncAs(Op op) {
    const Call call = env_->Enter(op, path_);
    if (call.error != 0) {
      inode_->FailSync();
      return Failure(call.error, "cannot sync ");
    }
    inode_->Sync();
    return Status();
  }

  Status Failure(int error, const char* what) const {
    return Status::FromErrno(error, what + path_);
  }

  FakeEnv* const env_;
  const std::string path_;
  const InodePtr inode_;
  const bool writable_;
  uint64_t appended_ = kAnywhere;  // where the next write is to begin
};

class FakeEnv::FakeStore final : public StoreFile {
 public:
  FakeStore(FakeEnv* env, std::string path, InodePtr inode)
      : StoreFile(&env->stores_fail_),
        env_(env),
        path_(std::move(path)),
        inode_(std::move(inode)) {}

  void Store(uint64_t offset, const void* data, size_t size) override {
    const auto lock = env_->EnterStore(Op::kStore, path_);
    assert(offset <= inode_->current.size() && size <= inode_->current.size() - offset);
    inode_->Write(offset, data, size);
  }
  void StoreWord(uint64_t offset, uint64_t word) override {
    const auto lock = env_->EnterStore(Op::kStoreWord, path_);
    assert(offset % sizeof(word) == 0 && offset + sizeof(word) <= inode_->current.size());
    __atomic_store_n(reinterpret_cast<uint64_t*>(inode_->current.data() + offset), word,
                     __ATOMIC_RELEASE);
    inode_->MarkDirty(offset, offset + sizeof(word));
  }
  const char* data() const override { return inode_->current.data(); }
  size_t size() const override { return inode_->current.size(); }
  Memory memory() override { return {}; }

 private:
  FakeEnv* const env_;
  const std::string path_;
  const InodePtr inode_;
};

class FakeEnv::FakeLock final : public DirectoryLock {
 public:
  FakeLock(FakeEnv* env, std::string path) : env_(env), path_(std::move(path)) {}
  ~FakeLock() override {
    const std::lock_guard<std::mutex> lock(env_->mutex_);
    env_->locked_.erase(path_);
  }
  // Directories cannot be renamed here.
  std::shared_ptr<Env> directory() override { return {std::shared_ptr<void>(), env_}; }

 private:
  FakeEnv* const env_;
  const std::string path_;
};

OpFilter OnlyOps(std::initializer_list<Op> ops) {
  return [taken = std::set<Op>(ops)](Op op, const std::string&) { return taken.contains(op); };
}

FakeEnv::FakeEnv(uint64_t random_seed) : random_(random_seed) {
  MakeDirectory("/");
  MakeDirectory(".");
}

FakeEnv::~FakeEnv() = default;

// ---- Crashes -----------------------------------------------------------------------------------

std::unique_ptr<FakeEnv> FakeEnv::ProcessDeath() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto after = std::make_unique<FakeEnv>();
  Copies copies;
  const auto copy = [&copies](const InodePtr& inode) {
    InodePtr& made = copies[inode.get()];
    if (made == nullptr && inode != nullptr) made = std::make_shared<Inode>(*inode);
    return made;
  };
  for (const auto& [path, inode] : names_) after->names_[path] = copy(inode);
  for (const auto& [path, inode] : durable_names_) after->durable_names_[path] = copy(inode);
  for (NameChange change : pending_) {
    change.inode = copy(change.inode);
    after->pending_.push_back(std::move(change));
  }
  after->capacity_bytes_ = capacity_bytes_;
  after->random_ = random_;
  return after;
}

std::unique_ptr<FakeEnv> FakeEnv::PowerLoss(Loss loss, uint64_t seed) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::mt19937_64 random(seed);
  size_t kept = loss == Loss::kDropAll ? 0 : pending_.size();
  if (loss == Loss::kRandom || loss == Loss::kGarbage) kept = random() % (pending_.size() + 1);
  Names names = durable_names_;
  for (size_t i = 0; i < kept; ++i) {
    if (loss != Loss::kUnordered || Survives(loss, &random)) Apply(pending_[i], &names);
  }

  auto after = std::make_unique<FakeEnv>();
  Copies copies;
  for (const auto& [path, inode] : names) {
    // What is in a directory whose own name was lost is lost with it. Parents sort first.
    if (!IsRoot(path) && !after->names_.contains(Parent(path))) continue;
    InodePtr& copy = copies[inode.get()];
    if (copy == nullptr) copy = inode->AfterPowerLoss(loss, &random);
    after->names_[path] = copy;
  }
  after->durable_names_ = after->names_;
  after->capacity_bytes_ = capacity_bytes_;
  after->random_ = random_;
  return after;
}

void FakeEnv::Writeback(uint64_t seed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::mt19937_64 random(seed);
  for (const auto& [path, inode] : names_) inode->Writeback(&random);
}

// ---- Faults ------------------------------------------------------------------------------------

void FakeEnv::SetCapacity(uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  capacity_bytes_ = bytes;
}

void FakeEnv::SetHook(Hook hook) {
  auto shared = hook ? std::make_shared<const Hook>(std::move(hook)) : nullptr;
  const std::lock_guard<std::mutex> lock(mutex_);
  hook_ = std::move(shared);
}

void FakeEnv::Announce(Op op, const std::string& path) {
  std::shared_ptr<const Hook> hook;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    hook = hook_;
  }
  if (hook) (*hook)(op, path);
}

void FakeEnv::InjectFault(Fault fault) {
  const std::lock_guard<std::mutex> lock(mutex_);
  fault_ = std::move(fault);
  fault_armed_ = true;
  fault_candidates_ = 0;
  faults_hit_ = 0;
}

void FakeEnv::ClearFault() {
  const std::lock_guard<std::mutex> lock(mutex_);
  fault_armed_ = false;
}

uint64_t FakeEnv::faults_hit() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return faults_hit_;
}

uint64_t FakeEnv::calls() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return calls_;
}

FakeEnv::Call FakeEnv::Enter(Op op, const std::string& path) {
  Announce(op, path);
  Call call{.lock = std::unique_lock<std::mutex>(mutex_)};
  ++calls_;
  if (!fault_armed_ || (fault_.matches && !fault_.matches(op, path))) return call;
  ++fault_candidates_;
  if (fault_candidates_ < fault_.nth) return call;
  if (fault_candidates_ > fault_.nth && !fault_.forever) return call;
  ++faults_hit_;
  call.error = fault_.error;
  call.written_bytes = fault_.written_bytes;
  return call;
}

std::unique_lock<std::mutex> FakeEnv::EnterStore(Op op, const std::string& path) {
  Announce(op, path);
  return std::unique_lock<std::mutex>(mutex_);
}

// ---- Files as bytes ----------------------------------------------------------------------------

std::string FakeEnv::Contents(const std::string& path) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Inode* inode = Find(Clean(path));
  return inode == nullptr ? std::string() : inode->current;
}

void FakeEnv::SetContents(const std::string& path, std::string_view bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::string clean = Clean(path);
  MakeDirectory(Parent(clean));
  if (Find(clean) == nullptr) Create(clean, std::make_shared<Inode>());
  SyncNames(Parent(clean));
  Inode* inode = Find(clean);
  inode->Resize(bytes.size());
  inode->Write(0, bytes.data(), bytes.size());
  inode->Sync();
}

void FakeEnv::SetMode(const std::string& path, uint32_t mode) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Find(Clean(path))->mode = mode;
}

std::vector<std::string> FakeEnv::Files() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::string> paths;
  for (const auto& [path, inode] : names_) {
    if (!inode->is_directory) paths.push_back(path);
  }
  return paths;
}

// ---- Env ---------------------------------------------------------------------------------------

Status FakeEnv::OpenFile(const std::string& path, OpenMode mode, std::unique_ptr<File>* file) {
  const std::string clean = Clean(path);
  const Call call = Enter(mode == OpenMode::kCreate ? Op::kCreate : Op::kOpen, clean);
  int error = call.error;
  if (error == 0 && mode == OpenMode::kCreate) error = Create(clean, std::make_shared<Inode>());
  if (error == 0 && Find(clean) == nullptr) error = ENOENT;
  if (error != 0) return Status::FromErrno(error, "cannot open " + path);
  const InodePtr& inode = names_[clean];
  if (inode->is_directory) return Status(Code::kIo, path + " is not a regular file");
  *file = std::make_unique<FakeFile>(this, clean, inode, mode != OpenMode::kRead);
  return Status();
}

Status FakeEnv::OpenStore(const std::string& path, size_t size, StoreMode mode,
                          std::unique_ptr<StoreFile>* store) {
  static_cast<void>(mode);  // there are no signals here
  const std::string clean = Clean(path);
  const Call call = Enter(Op::kOpenStore, clean);
  int error = call.error;
  if (error == 0 && Find(clean) == nullptr) error = Create(clean, std::make_shared<Inode>());
  if (error != 0) return Status::FromErrno(error, "cannot open " + path);
  const InodePtr& inode = names_[clean];
  if (inode->is_directory) return Status(Code::kIo, path + " is not a regular file");
  if (!HasRoom(inode->current.size(), size)) {
    return Status::FromErrno(ENOSPC, "cannot reserve space for " + path);
  }
  if (inode->current.size() != size) inode->Resize(size);
  *store = std::make_unique<FakeStore>(this, clean, inode);
  return Status();
}

Status FakeEnv::Exists(const std::string& path, bool* exists) {
  const std::string clean = Clean(path);
  const Call call = Enter(Op::kExists, clean);
  if (call.error != 0) return Status::FromErrno(call.error, "cannot examine " + path);
  *exists = Find(clean) != nullptr;
  return Status();
}

Status FakeEnv::List(const std::string& directory, std::vector<std::string>* names) {
  const std::string clean = Clean(directory);
  const Call call = Enter(Op::kList, clean);
  int error = call.error;
  const Inode* inode = Find(clean);
  if (error == 0 && inode == nullptr) error = ENOENT;
  if (error == 0 && !inode->is_directory) error = ENOTDIR;
  if (error != 0) return Status::FromErrno(error, "cannot open " + directory);
  names->clear();
  for (const auto& [path, unused] : names_) {
    if (!IsRoot(path) && Parent(path) == clean) names->push_back(path.substr(path.rfind('/') + 1));
  }
  return Status();
}

Status FakeEnv::CreateDirectories(const std::string& path) {
  const std::string clean = Clean(path);
  const Call call = Enter(Op::kCreateDirectories, clean);
  if (call.error != 0) return Status::FromErrno(call.error, "cannot create " + path);
  std::string existing = clean;
  while (Find(existing) == nullptr) existing = Parent(existing);
  if (!Find(existing)->is_directory) {
    return Status::FromErrno(Code::kInvalidArgument, ENOTDIR, "cannot open " + existing);
  }
  MakeDirectory(clean);
  return Status();
}

Status FakeEnv::SyncDirectory(const std::string& path) {
  const std::string clean = Clean(path);
  const Call call = Enter(Op::kSyncDirectory, clean);
  if (call.error != 0) return Status::FromErrno(call.error, "cannot sync " + path);
  const Inode* inode = Find(clean);
  if (inode == nullptr) return Status::FromErrno(ENOENT, "cannot open " + path);
  if (!inode->is_directory) return Status::FromErrno(ENOTDIR, "cannot open " + path);
  SyncNames(clean);
  return Status();
}

Status FakeEnv::Rename(const std::string& from, const std::string& to) {
  const std::string source = Clean(from);
  const std::string target = Clean(to);
  const Call call = Enter(Op::kRename, source);
  int error = call.error;
  const Inode* inode = Find(source);
  if (error == 0 && (inode == nullptr || Find(Parent(target)) == nullptr)) error = ENOENT;
  if (error == 0 && inode->is_directory) error = EISDIR;
  if (error != 0) return Status::FromErrno(error, "cannot rename " + from + " to " + to);
  if (source != target) Change({Parent(target), source, target, names_[source]});
  return Status();
}

Status FakeEnv::Link(const std::string& from, const std::string& to) {
  const std::string source = Clean(from);
  const Call call = Enter(Op::kLink, source);
  int error = call.error;
  if (error == 0) error = Find(source) == nullptr ? ENOENT : Create(Clean(to), names_[source]);
  if (error != 0) return Status::FromErrno(error, "cannot link " + from + " to " + to);
  return Status();
}

Status FakeEnv::Remove(const std::string& path) {
  const std::string clean = Clean(path);
  const Call call = Enter(Op::kRemove, clean);
  int error = call.error;
  const Inode* inode = Find(clean);
  if (error == 0 && inode == nullptr) error = ENOENT;
  if (error == 0 && inode->is_directory) error = EISDIR;
  if (error != 0) return Status::FromErrno(error, "cannot remove " + path);
  Change({Parent(clean), clean, "", nullptr});
  return Status();
}

void FakeEnv::RemoveDirectory(const std::string& path) {
  const Call call = Enter(Op::kRemove, Clean(path));
  Change({Parent(Clean(path)), Clean(path), "", nullptr});
}

Status FakeEnv::LockDirectory(const std::string& path, std::unique_ptr<DirectoryLock>* lock) {
  const std::string clean = Clean(path);
  const Call call = Enter(Op::kLockDirectory, clean);
  if (call.error != 0) return Status::FromErrno(call.error, "cannot lock " + path);
  const Inode* inode = Find(clean);
  if (inode == nullptr) return Status::FromErrno(ENOENT, "cannot open " + path);
  if (!inode->is_directory) return Status::FromErrno(ENOTDIR, "cannot open " + path);
  if (!locked_.insert(clean).second) {
    return Status(Code::kLocked, "data directory is already locked by another limiter: " + path);
  }
  const std::string file = clean + "/flint.lock";
  if (Find(file) == nullptr) Create(file, std::make_shared<Inode>());
  *lock = std::make_unique<FakeLock>(this, clean);
  return Status();
}

Status FakeEnv::Mode(const std::string& path, uint32_t* mode) {
  const std::string clean = Clean(path);
  const Call call = Enter(Op::kMode, clean);
  const Inode* inode = Find(clean);
  const int error = call.error == 0 && inode == nullptr ? ENOENT : call.error;
  if (error != 0) return Status::FromErrno(error, "cannot examine " + path);
  *mode = inode->mode;
  return Status();
}

Status FakeEnv::FileSize(const std::string& path, uint64_t* bytes) {
  const std::string clean = Clean(path);
  const Call call = Enter(Op::kSize, clean);
  const Inode* inode = Find(clean);
  const int error = call.error == 0 && inode == nullptr ? ENOENT : call.error;
  if (error != 0) return Status::FromErrno(error, "cannot examine " + path);
  if (inode->is_directory) return Status(Code::kIo, path + " is not a regular file");
  *bytes = inode->current.size();
  return Status();
}

void FakeEnv::SeedRandom(uint64_t seed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  random_.seed(seed);
}

Status FakeEnv::Random(void* buffer, size_t size) {
  const Call call = Enter(Op::kRandom, "");
  if (call.error != 0) return Status::FromErrno(call.error, "cannot get random bytes");
  char* bytes = static_cast<char*>(buffer);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(random_());
  return Status();
}

// ---- Names -------------------------------------------------------------------------------------

FakeEnv::Inode* FakeEnv::Find(const std::string& path) const {
  const auto found = names_.find(path);
  return found == names_.end() ? nullptr : found->second.get();
}

int FakeEnv::Create(const std::string& path, InodePtr inode) {
  if (Find(path) != nullptr) return EEXIST;
  const Inode* parent = Find(Parent(path));
  if (parent == nullptr) return ENOENT;
  if (!parent->is_directory) return ENOTDIR;
  Change({Parent(path), "", path, std::move(inode)});
  return 0;
}

void FakeEnv::MakeDirectory(const std::string& path) {
  if (Find(path) != nullptr) return;
  if (!IsRoot(path)) MakeDirectory(Parent(path));
  auto inode = std::make_shared<Inode>();
  inode->is_directory = true;
  inode->mode = 0700;
  Change({Parent(path), "", path, std::move(inode)});
  SyncNames(Parent(path));
}

void FakeEnv::Change(NameChange change) {
  Apply(change, &names_);
  pending_.push_back(std::move(change));
}

void FakeEnv::SyncNames(const std::string& directory) {
  std::vector<NameChange> others;
  for (NameChange& change : pending_) {
    if (change.directory == directory) {
      Apply(change, &durable_names_);
    } else {
      others.push_back(std::move(change));
    }
  }
  pending_ = std::move(others);
}

void FakeEnv::Apply(const NameChange& change, Names* names) {
  if (!change.erased.empty()) names->erase(change.erased);
  if (!change.set.empty()) (*names)[change.set] = change.inode;
}

bool FakeEnv::HasRoom(uint64_t old_size, uint64_t new_size) const {
  return new_size <= old_size || UsedBytes() + (new_size - old_size) <= capacity_bytes_;
}

uint64_t FakeEnv::UsedBytes() const {
  std::set<const Inode*> counted;
  uint64_t bytes = 0;
  for (const auto& [path, inode] : names_) {
    if (counted.insert(inode.get()).second) bytes += inode->current.size();
  }
  return bytes;
}

}  // namespace flint
