-- Reads what all customers share, as of one snapshot: meters, offers, gateways with their keys.
-- In: nothing. Out: one row: the version, and JSON lists.
SELECT (SELECT version FROM accounts_catalogueversion),
       (SELECT json_agg(json_build_object(
                   'id', id, 'key', key, 'event_type', event_type, 'aggregation', aggregation,
                   'value_property', value_property, 'dimensions', dimensions,
                   'filters', filters, 'unit', unit, 'archived', archived_at IS NOT NULL))
          FROM metering_meter)::text,
       (SELECT json_agg(json_build_object(
                   'plan_key', plan_key, 'plan_name', plan_name, 'terms', terms)
                   ORDER BY rank, plan_key)
          FROM metering_offer)::text,
       (SELECT json_agg(json_build_array(
                   encode(k.digest, 'hex'), g.id, g.name,
                   (extract(epoch FROM k.expires_at) * 1000000)::bigint,
                   (extract(epoch FROM k.revoked_at) * 1000000)::bigint,
                   g.disabled_at IS NOT NULL))
          FROM accounts_gatewaykey AS k
          JOIN accounts_gateway AS g ON g.id = k.gateway_id)::text,
       (SELECT json_agg(DISTINCT feature)
          FROM metering_entitlement WHERE kind <> 'metered')::text,
       (SELECT json_agg(json_build_array(gateway_id, method, path, meter, quantity, mode)
                        ORDER BY gateway_id, position)
          FROM accounts_gatewayroute)::text
