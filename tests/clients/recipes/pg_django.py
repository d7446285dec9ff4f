"""Django: a schema per tenant by django-tenants, row-level security set by a middleware for the transaction or the
session, Django's own connection pool, sessions in the database, and a column that each query names."""

import django
from django.conf import settings
from recipe import NUMBERS, bearer, options, serve_wsgi

OPTIONS = options(__doc__, ["tenants", "rls-atomic", "rls-session", "rls-pool", "sessions", "column"])
TENANTS = OPTIONS.mode == "tenants"
# A thread has a connection of its own, unless Django's pool has them.
THREADS = OPTIONS.pool if OPTIONS.mode != "rls-pool" else 2 * OPTIONS.pool

DATABASE = {
    "ENGINE": "django_tenants.postgresql_backend" if TENANTS else "django.db.backends.postgresql",
    "HOST": "127.0.0.1",
    "PORT": OPTIONS.upstream,
    "NAME": "shop",
    "USER": "app",
    "CONN_MAX_AGE": None,
    "ATOMIC_REQUESTS": OPTIONS.mode in ("rls-atomic", "rls-pool"),
    "OPTIONS": {},
}
if OPTIONS.mode == "rls-pool":
    DATABASE |= {"CONN_MAX_AGE": 0}
    DATABASE["OPTIONS"] = {"pool": {"min_size": OPTIONS.pool, "max_size": OPTIONS.pool, "timeout": 60}}

MIDDLEWARE = {
    "tenants": ["__main__.ByHost"],
    "sessions": ["django.contrib.sessions.middleware.SessionMiddleware", "__main__.Sessions"],
    "column": ["__main__.Column"],
}.get(OPTIONS.mode, ["__main__.ByKey"])

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="only-in-the-lab",
    ROOT_URLCONF="__main__",
    USE_TZ=True,
    DEBUG=False,
    DATABASES={"default": DATABASE},
    DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"] if TENANTS else [],
    INSTALLED_APPS=(["django_tenants", "django.contrib.contenttypes"] if TENANTS else []) + ["django.contrib.sessions"],
    SHARED_APPS=["django_tenants", "django.contrib.contenttypes"],
    TENANT_APPS=["django.contrib.sessions"],
    TENANT_MODEL="customers.Client",
    TENANT_DOMAIN_MODEL="customers.Domain",
    SESSION_ENGINE="django.contrib.sessions.backends.db",
    MIDDLEWARE=MIDDLEWARE,
)
# The application itself, which the models belong to.
import sys
import types

from django.apps import AppConfig

customers = types.ModuleType("customers")
customers.__path__ = []
customers.__file__ = __file__
sys.modules["customers"] = customers


class Customers(AppConfig):
    name = "customers"
    path = "/nonexistent"
    default_auto_field = "django.db.models.BigAutoField"


customers.Customers = Customers
settings.INSTALLED_APPS.append("customers.Customers")
django.setup()

from django.db import connection, models, transaction
from django.http import JsonResponse
from django.urls import path

if TENANTS:
    from django_tenants.middleware.main import TenantMainMiddleware
    from django_tenants.models import DomainMixin, TenantMixin

    class Client(TenantMixin):
        name = models.TextField()
        auto_create_schema = False

        class Meta:
            app_label = "customers"
            db_table = "customers_client"

    class Domain(DomainMixin):
        class Meta:
            app_label = "customers"
            db_table = "customers_domain"

    Domain._meta.get_field("tenant").remote_field.model = Client

    class ByHost(TenantMainMiddleware):
        def process_request(self, request):
            # The thread's connection keeps the tenant of whoever came before.
            if not request.path.startswith("/peek/"):
                super().process_request(request)

        @staticmethod
        def hostname_from_request(request):
            return OPTIONS.tokens[bearer(request.headers)] + ".example.com"


class ApiKey(models.Model):
    key = models.TextField(primary_key=True)
    tenant_id = models.IntegerField()

    class Meta:
        app_label = "customers"
        db_table = "api_keys"


class Tenant(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "customers"
        db_table = "tenants"


class Order(models.Model):
    tenant = models.TextField()
    item = models.TextField()

    class Meta:
        app_label = "customers"
        db_table = "shop_order" if TENANTS else "orders"


class Doc(models.Model):
    tenant_id = models.IntegerField()
    tenant = models.TextField()
    item = models.TextField()

    class Meta:
        app_label = "customers"
        db_table = "docs"


class Visit(models.Model):
    ref = models.TextField(primary_key=True)

    class Meta:
        app_label = "customers"
        db_table = "visits"


def bind(name):
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant_id', %s, %s)", [name, DATABASE["ATOMIC_REQUESTS"]])


class ByKey:
    """Who has the key is asked of the database, then the tenant is set: in process_view, where the transaction is open."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        key = ApiKey.objects.get(key=bearer(request.headers))
        request.tenant = Tenant.objects.get(id=key.tenant_id)
        if OPTIONS.mode == "rls-session" and not request.path.startswith("/peek/"):
            bind(request.tenant.name)
        return self.get_response(request)


class Sessions:
    """A login in the database's sessions: asked before, written after."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        name = OPTIONS.tokens[bearer(request.headers)]
        request.session = request.session.__class__(SESSIONS.get(name))
        request.session["tenant"] = name
        if not request.path.startswith("/peek/"):
            bind(request.session["tenant"])
        response = self.get_response(request)
        SESSIONS[name] = request.session.session_key
        return response


SESSIONS = {}


class Column:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        request.tenant_id = ApiKey.objects.get(key=bearer(request.headers)).tenant_id
        return self.get_response(request)


def rows(query):
    return [{"tenant": row.tenant, "item": row.item} for row in query[:3]]


def orders(request, ref):
    if OPTIONS.mode == "column":
        mine = Doc.objects.filter(tenant_id=request.tenant_id)
        found = rows(mine.exclude(item=ref))
        mine.filter(item=ref).update(item=ref)
        return JsonResponse({"rows": found, "ref": ref})
    if DATABASE["ATOMIC_REQUESTS"]:
        bind(request.tenant.name)
    found = rows(Order.objects.exclude(item=ref).order_by("id"))
    Visit(ref=ref).save(force_insert=True)
    return JsonResponse({"rows": found, "ref": ref})


def peek(request, ref):
    query = Doc.objects if OPTIONS.mode == "column" else Order.objects
    return JsonResponse({"rows": rows(query.exclude(item=ref).order_by("-id")), "ref": ref})


urlpatterns = [path("orders/<ref>", orders), path("peek/<ref>", peek)]

if __name__ == "__main__":
    from django.core.wsgi import get_wsgi_application

    serve_wsgi(get_wsgi_application(), THREADS)
