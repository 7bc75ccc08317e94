"""A Django project in one file, with rate limits that survive a restart.

pip install "flint-limiter[django]" uvicorn
uvicorn django_app:app
"""

import os
from collections.abc import AsyncIterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "only for trying"),
    INSTALLED_APPS=["flint.django"],
    MIDDLEWARE=["flint.django.RateLimitMiddleware"],
    FLINT={"URL": os.environ.get("FLINT_DATA_DIR", "data/limits"), "DEFAULT": "1000/minute"},
)
django.setup()

from flint.django import ratelimit  # noqa: E402


@ratelimit("20/hour")
async def search(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"found": request.GET.get("q", "")})


@ratelimit("100/minute")
async def numbers(_: HttpRequest) -> StreamingHttpResponse:
    async def count() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}\n"

    return StreamingHttpResponse(count(), content_type="text/plain")


urlpatterns = [path("search", search), path("numbers", numbers)]
app = get_asgi_application()
