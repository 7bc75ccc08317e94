#include "sharing/message.h"

#include <unistd.h>

#include <algorithm>

namespace flint::sharing {

flint_limiter_error NoError() {
  flint_limiter_error error{};
  error.struct_size = sizeof(error);
  return error;
}

std::string ErrorReply(int32_t code, const flint_limiter_error& error) {
  const bool said = error.code == code && error.message[0] != 0;
  Writer reply;
  reply.Put(code).Put(said ? error.system_errno : 0);
  reply.Put(said ? error.offset : 0).Put(said ? error.sequence : 0);
  reply.Text(said ? error.segment : "");
  return reply.Text(said ? error.message : flint_limiter_code_text(code)).Finish();
}

std::string ErrorReply(int32_t code, std::string_view message) {
  flint_limiter_error error = NoError();
  Fail(code, message, &error);
  return ErrorReply(code, error);
}

void ReadError(Reader* reply, int32_t code, flint_limiter_error* error) {
  flint_limiter_error read = NoError();
  std::string_view segment;
  std::string_view message;
  reply->Get(&read.system_errno);
  reply->Get(&read.offset);
  reply->Get(&read.sequence);
  reply->Text(&segment);
  reply->Text(&message);
  if (error == nullptr) return;
  const uint32_t size = error->struct_size;
  Fail(code, message, &read);
  segment.copy(read.segment, sizeof(read.segment) - 1);
  std::memcpy(error, &read, std::min<size_t>(size, sizeof(read)));
  error->struct_size = size;
}

int32_t Fail(int32_t code, std::string_view message, flint_limiter_error* error) {
  if (error == nullptr) return code;
  error->code = code;
  size_t size = std::min(message.size(), sizeof(error->message) - 1);
  // Cut at a character.
  while (size < message.size() && size > 0 && (message[size] & '\xc0') == '\x80') size--;
  message.copy(error->message, size);
  error->message[size] = '\0';
  return code;
}

uint64_t Layout() {
  uint64_t layout = 0;
  for (const size_t size :
       {sizeof(flint_limiter_result), sizeof(flint_limiter_limit_result),
        sizeof(flint_limiter_config), sizeof(flint_limiter_status_info), sizeof(flint_limiter_info),
        sizeof(flint_limiter_event), sizeof(flint_limiter_history_query), sizeof(void*)}) {
    layout = layout * 1021 + size;
  }
  return layout;
}

std::string GreetingMessage(uint32_t sync) {
  Greeting greeting;
  greeting.sync = sync;
  greeting.layout = Layout();
  return Writer(Function::kGreet).Put(greeting).Text(flint_limiter_version()).Finish();
}

int32_t CheckGreeting(std::string_view body, uint32_t sync, std::string* why) {
  Reader reader(body);
  Greeting greeting;
  std::string_view version;
  reader.Get(&greeting);
  reader.Text(&version);
  if (!reader.ok() || greeting.magic != kGreeting) {
    *why = "that is not how a limiter that shares a directory greets its owner";
    return FLINT_LIMITER_UNSUPPORTED;
  }
  if (version != flint_limiter_version() || greeting.layout != Layout()) {
    *why = "the data directory is owned by a process with Flint " +
           std::string(flint_limiter_version()) + ", and this one has " + std::string(version) +
           "; processes that share a directory need one and the same version: stop the older ones";
    return FLINT_LIMITER_UNSUPPORTED;
  }
  if (greeting.sync != sync) {
    *why = std::string("the owner of the data directory has opened it with sync \"") +
           (sync == FLINT_LIMITER_SYNC_ALWAYS ? "always" : "batch") +
           "\"; processes that share a directory open it with the same";
    return FLINT_LIMITER_INVALID_ARGUMENT;
  }
  return FLINT_LIMITER_OK;
}

}  // namespace flint::sharing
