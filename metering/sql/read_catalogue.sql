-- Reads what all customers share, as of one snapshot: meters with what they match from when on,
-- offers, gateways with their keys, and which version of a price table stands from when on (the
-- prices themselves: read_prices.sql). In: nothing. Out: one row: the version, JSON lists, and the
-- database's time.
SELECT (SELECT version FROM accounts_catalogueversion),
       (SELECT json_agg(json_build_object(
                   'id', id, 'key', key, 'event_type', event_type, 'aggregation', aggregation,
                   'value_property', value_property, 'dimensions', dimensions,
                   'filters', filters, 'unit', unit, 'archived', archived_at IS NOT NULL,
                   'price_table', price_table_id,
                   'changes', (SELECT json_agg(json_build_object(
                                   'from', (extract(epoch FROM v.effective_at) * 1000000)::bigint,
                                   'event_type', v.event_type,
                                   'value_property', v.value_property,
                                   'dimensions', v.dimensions, 'filters', v.filters,
                                   'price_table', v.price_table_id)
                                   ORDER BY v.effective_at)
                                 FROM metering_meterversion AS v
                                WHERE v.meter_id = metering_meter.id)))
          FROM metering_meter)::text,
       (SELECT json_agg(json_build_object(
                   'plan_key', plan_key, 'currency', currency, 'plan_name', plan_name,
                   'terms', terms)
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
          FROM accounts_gatewayroute)::text,
       (SELECT json_agg(json_build_array(
                   t.id, t.key, p.id, (extract(epoch FROM p.effective_at) * 1000000)::bigint)
                   ORDER BY t.id, p.effective_at)
          FROM metering_pricetable AS t
          LEFT JOIN metering_pricetableversion AS p
            ON p.table_id = t.id AND p.effective_at IS NOT NULL
         WHERE t.id IN (SELECT price_table_id FROM metering_meter
                        UNION ALL SELECT price_table_id FROM metering_meterversion))::text,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
