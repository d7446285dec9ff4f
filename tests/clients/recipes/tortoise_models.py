"""Tortoise wants a module of models; `pg_asyncio.py` says its statements itself."""

from tortoise import fields
from tortoise.models import Model


class Order(Model):
    id = fields.IntField(primary_key=True)
    tenant = fields.TextField()
    item = fields.TextField()

    class Meta:
        table = "orders"
