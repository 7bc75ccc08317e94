#include "http_routes.h"

#include <array>

#include "http_handlers.h"

namespace flint::server {
namespace {

using Body = HttpRoute::Body;

constexpr std::array kRoutes = {
    HttpRoute{"GET", "/healthz", Rights::kRead, Body::kNone, AnswerHealth, true},
    HttpRoute{"GET", "/readyz", Rights::kRead, Body::kNone, AnswerReady, true},
    HttpRoute{"GET", "/v1/health", Rights::kRead, Body::kNone, AnswerHealth},
    HttpRoute{"GET", "/v1/limits", Rights::kRead, Body::kNone, AnswerListing},
    HttpRoute{"POST", "/v1/limits", Rights::kAdmin, Body::kJson, AnswerLimit},
    HttpRoute{"GET", kOneLimitPath, Rights::kRead, Body::kNone, AnswerStatus},
    HttpRoute{"POST", "/v1/check", Rights::kCheck, Body::kJson, AnswerCheck},
    HttpRoute{"POST", "/v1/allow", Rights::kCheck, Body::kJson, AnswerAllow, false, ""},
    HttpRoute{"POST", "/v1/checks:batch", Rights::kCheck, Body::kJson, AnswerChecks},
    HttpRoute{"POST", "/v1/check-all", Rights::kCheck, Body::kJson, AnswerCheckAll},
    HttpRoute{"POST", "/v1/limits:batch", Rights::kAdmin, Body::kJson, AnswerLimits},
    HttpRoute{"POST", "/v1/status", Rights::kRead, Body::kJson, AnswerStatusByBody},
    HttpRoute{"GET", "/v1/top", Rights::kRead, Body::kNone, AnswerTop},
    HttpRoute{"GET", "/v1/history", Rights::kRead, Body::kNone, AnswerHistory},
    HttpRoute{"GET", "/v1/info", Rights::kRead, Body::kNone, AnswerInfo},
    HttpRoute{"POST", "/v1/peek", Rights::kRead, Body::kJson, AnswerPeek},
    HttpRoute{"POST", "/v1/remove", Rights::kAdmin, Body::kJson, AnswerRemove},
    HttpRoute{"POST", "/v1/reset", Rights::kAdmin, Body::kJson, AnswerReset},
    HttpRoute{"POST", "/v1/log/flush", Rights::kAdmin, Body::kIgnored, AnswerFlush},
    HttpRoute{"POST", "/v1/log/compact", Rights::kAdmin, Body::kIgnored, AnswerCompact},
    HttpRoute{"GET", "/v1/openapi.json", Rights::kRead, Body::kNone, AnswerOpenApi},
    HttpRoute{"GET", "/metrics", Rights::kRead, Body::kNone, AnswerMetrics, false, "text/plain"},
    HttpRoute{"POST", "/throttle", Rights::kCheck, Body::kJson, AnswerThrottle},
    HttpRoute{"POST", "/json", Rights::kCheck, Body::kJson, AnswerEnvoy},
    HttpRoute{"GET", "/v1/doctor", Rights::kRead, Body::kNone, AnswerDoctor},
};

bool Matches(const HttpRoute& route, std::string_view path) {
  if (!route.path.ends_with('/')) return path == route.path;
  return path.size() > route.path.size() && path.starts_with(route.path) &&
         path.find('/', route.path.size()) == std::string_view::npos;
}

}  // namespace

const HttpRoute* FindRoute(const HttpRequest& request) {
  const bool head = request.method == "HEAD";
  const std::string_view method = head ? std::string_view("GET") : request.method;
  for (const HttpRoute& route : kRoutes) {
    if (route.method == method && Matches(route, request.path)) return &route;
  }
  return nullptr;
}

std::string MethodsOf(std::string_view path) {
  std::string methods;
  for (const HttpRoute& route : kRoutes) {
    if (!Matches(route, path)) continue;
    if (!methods.empty()) methods.push_back(',');
    methods.append(route.method == "GET" ? "GET,HEAD" : route.method);
  }
  return methods;
}

}  // namespace flint::server
