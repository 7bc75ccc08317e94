#include "engine/key.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "engine/key_hash.h"

namespace flint {
namespace {

TEST(Key, IsUtf8) {
  // RFC 3629's table, at both ends of each row.
  for (const char* key :
       {"a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xE0\xBF\xBF", "\xE1\x80\x80",
        "\xEC\xBF\xBF", "\xED\x80\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
        "\xF0\x90\x80\x80", "\xF0\xBF\xBF\xBF", "\xF1\x80\x80\x80", "\xF3\xBF\xBF\xBF",
        "\xF4\x80\x80\x80", "\xF4\x8F\xBF\xBF", "key \xF0\x9F\x94\xA5 key"}) {
    EXPECT_TRUE(CheckKey(key).ok()) << Shown(key);
    EXPECT_TRUE(CheckPrefix(key).ok()) << Shown(key);
  }
  for (const char* key : {"\x80",
                          "\xBF",
                          "\xC0\x80",
                          "\xC1\xBF",
                          "\xC2",
                          "\xC2\x7F",
                          "\xC2\xC0",
                          "\xE0\x9F\xBF",
                          "\xE0\xA0",
                          "\xE1\x80\x7F",
                          "\xE1\x7F\x80",
                          "\xED\xA0\x80",
                          "\xED\xBF\xBF",
                          "\xF0\x8F\xBF\xBF",
                          "\xF0\x90\x80",
                          "\xF4\x90\x80\x80",
                          "\xF5\x80\x80\x80",
                          "\xF8\x80\x80",
                          "\xFE",
                          "\xFF",
                          "good\xFF",
                          "good\xE2\x82"}) {
    EXPECT_EQ(CheckKey(key).code(), Code::kInvalidArgument) << Shown(key);
    EXPECT_EQ(CheckPrefix(key).code(), Code::kInvalidArgument) << Shown(key);
  }
}

TEST(Key, HasALength) {
  EXPECT_EQ(CheckKey("").code(), Code::kInvalidArgument);
  EXPECT_TRUE(CheckPrefix("").ok());
  EXPECT_TRUE(CheckKey(std::string(65535, 'x')).ok());
  EXPECT_TRUE(CheckPrefix(std::string(65535, 'x')).ok());
  const Status status = CheckKey(std::string(65536, 'x'));
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("65536"), std::string::npos) << status.message();
  EXPECT_LT(status.message().size(), 300u);
  EXPECT_EQ(CheckPrefix(std::string(65536, 'x')).code(), Code::kInvalidArgument);
}

TEST(Key, IsNotBlank) {
  for (const char* space : {" ", "\t", "\n", "\v", "\f", "\r", "\xC2\x85", "\xC2\xA0",
                            "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x8A", "\xE2\x80\xA8",
                            "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"}) {
    EXPECT_EQ(CheckKey(space).code(), Code::kInvalidArgument) << Shown(space);
    EXPECT_EQ(CheckKey(std::string("  ") + space).code(), Code::kInvalidArgument);
    EXPECT_TRUE(CheckPrefix(space).ok());
    EXPECT_TRUE(CheckKey(std::string(space) + "x").ok());
  }
  // Zero-width space and the control characters are not white space.
  EXPECT_TRUE(CheckKey("\xE2\x80\x8B").ok());
  EXPECT_TRUE(CheckKey("\x01").ok());
  EXPECT_TRUE(CheckKey(std::string_view("\0", 1)).ok());
}

TEST(Key, IsShownInOneLineOfText) {
  EXPECT_EQ(Shown("key"), "\"key\"");
  EXPECT_EQ(Shown("\xC3\xA9"), "\"\xC3\xA9\"");
  EXPECT_EQ(Shown("a\nb\xFF"),
            "\"a\\x0a"
            "b\\xff\"");
  EXPECT_EQ(Shown("\xE2\x80\xAE"), "\"\\xe2\\x80\\xae\"");  // writes from right to left
  EXPECT_EQ(Shown("\xC2\x9B"), "\"\\xc2\\x9b\"");           // begins a terminal's command
  EXPECT_EQ(Shown(std::string(64, 'x')), "\"" + std::string(64, 'x') + "\"");
  EXPECT_EQ(Shown(std::string(65, 'x')), "\"" + std::string(64, 'x') + "\"...");
}

TEST(Key, HashIsXxh3OfEveryLength) {
  std::vector<unsigned char> secret(kHashSecretBytes);
  for (size_t i = 0; i < secret.size(); ++i) secret[i] = static_cast<unsigned char>(i * 37 + 1);
  std::string key;
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(HashOf(key, secret),
              XXH3_64bits_withSecret(key.data(), key.size(), secret.data(), secret.size()));
    key.push_back(static_cast<char>(i));
  }
}

TEST(Key, IsNamedInOneLineOfText) {
  EXPECT_EQ(Named("key", ""), "key");
  EXPECT_EQ(Named("key", "a\n"), "key (name \"a\\x0a\")");
  EXPECT_EQ(Named("\x1B[31m", ""), "\\x1b[31m");
  EXPECT_EQ(Named(std::string(65, 'x'), ""), std::string(64, 'x') + "...");
}

}  // namespace
}  // namespace flint
