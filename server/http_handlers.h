#pragma once

#include <memory>
#include <string_view>

// What answers requests; the table in http_routes.cc says which.
namespace flint::server {

class HttpExchange;
using Exchange = std::shared_ptr<HttpExchange>;

extern const std::string_view kOpenApi;  // server/openapi.json

inline constexpr std::string_view kOneLimitPath = "/v1/limits/";  // and a key

// http_decisions.cc
void AnswerCheck(const Exchange& exchange);
void AnswerPeek(const Exchange& exchange);
void AnswerAllow(const Exchange& exchange);
void AnswerChecks(const Exchange& exchange);
void AnswerCheckAll(const Exchange& exchange);

// http_compat.cc
void AnswerThrottle(const Exchange& exchange);
void AnswerEnvoy(const Exchange& exchange);

// http_metrics.cc
void AnswerMetrics(const Exchange& exchange);

// http_limits.cc
void AnswerLimits(const Exchange& exchange);
void AnswerLimit(const Exchange& exchange);
void AnswerRemove(const Exchange& exchange);
void AnswerReset(const Exchange& exchange);
void AnswerStatusByBody(const Exchange& exchange);
void AnswerStatus(const Exchange& exchange);

// http_listing.cc
void AnswerListing(const Exchange& exchange);
void AnswerTop(const Exchange& exchange);

// http_history.cc
void AnswerHistory(const Exchange& exchange);

// http_log.cc
void AnswerFlush(const Exchange& exchange);
void AnswerCompact(const Exchange& exchange);
void AnswerDoctor(const Exchange& exchange);
void AnswerInfo(const Exchange& exchange);
void AnswerOpenApi(const Exchange& exchange);
void AnswerHealth(const Exchange& exchange);
void AnswerReady(const Exchange& exchange);

}  // namespace flint::server
