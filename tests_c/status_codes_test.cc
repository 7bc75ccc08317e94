#include "base/status_codes.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>

#include "base/status.h"
#include "flint_limiter.h"

// The one list of status codes inside, and what the public header and the library say of them.
namespace flint {
namespace {

struct CodeFacts {
  Code code;
  int32_t value;         // in the list
  int32_t public_value;  // in the header
  const char* name;
  const char* sentence;
};

constexpr CodeFacts kCodes[] = {
#define FLINT_CODE_FACTS(name, c_name, value, sentence) \
  {Code::name, value, FLINT_LIMITER_##c_name, #c_name, sentence},
    FLINT_STATUS_CODES(FLINT_CODE_FACTS)
#undef FLINT_CODE_FACTS
};

TEST(StatusCodes, AreThoseOfTheHeader) {
  for (const CodeFacts& facts : kCodes) {
    EXPECT_EQ(facts.value, facts.public_value) << facts.sentence;
    EXPECT_EQ(static_cast<int32_t>(facts.code), facts.public_value) << facts.sentence;
  }
}

TEST(StatusCodes, AreToldInTheSameWords) {
  for (const CodeFacts& facts : kCodes) {
    EXPECT_STREQ(flint_limiter_code_text(facts.public_value), facts.sentence);
    EXPECT_STREQ(CodeSentence(facts.code), facts.sentence);
    EXPECT_STREQ(flint_limiter_code_name(facts.public_value), facts.name);
    if (facts.code != Code::kOk) {
      EXPECT_EQ(Status(facts.code, "words").message(), "words");
    }
  }
}

TEST(StatusCodes, HaveValuesAndSentencesOfTheirOwn) {
  std::set<int32_t> values;
  std::set<std::string> sentences;
  for (const CodeFacts& facts : kCodes) {
    EXPECT_TRUE(values.insert(facts.value).second) << facts.value;
    EXPECT_TRUE(sentences.insert(facts.sentence).second) << facts.sentence;
  }
}

TEST(StatusCodes, NoOtherValueIsKnown) {
  std::set<int32_t> values;
  for (const CodeFacts& facts : kCodes) values.insert(facts.value);
  for (int32_t value = -1000; value <= 1000; ++value) {
    const bool known = std::string(flint_limiter_code_text(value)) != "unknown status";
    EXPECT_EQ(known, values.count(value) == 1) << value;
    EXPECT_EQ(known, std::string(flint_limiter_code_name(value)) != "UNKNOWN") << value;
  }
}

}  // namespace
}  // namespace flint
