"""The tables of accounts."""

from accounts.models.audit import AuditEntry, IdempotentRequest
from accounts.models.credentials import ApiKey, Credential, GatewayKey, OperatorKey
from accounts.models.customers import CatalogueVersion, Customer, CustomerVersion
from accounts.models.entities import Entity, new_entity_id
from accounts.models.gateways import Gateway, GatewayRoute
from accounts.models.heartbeats import Heartbeat
from accounts.models.members import Member

__all__ = [
    "ApiKey",
    "AuditEntry",
    "CatalogueVersion",
    "Credential",
    "Customer",
    "CustomerVersion",
    "Entity",
    "Gateway",
    "GatewayKey",
    "GatewayRoute",
    "Heartbeat",
    "IdempotentRequest",
    "Member",
    "OperatorKey",
    "new_entity_id",
]
