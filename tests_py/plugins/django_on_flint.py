"""Settings for the tests of django-ratelimit: what they count in a cache, Flint counts."""

SECRET_KEY = "of a test"
INSTALLED_APPS = ["django_ratelimit"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {
    "default": {"BACKEND": "flint.plugins.django_cache.CounterCache", "LOCATION": ":memory:"},
}
