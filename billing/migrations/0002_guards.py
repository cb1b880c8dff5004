"""What the database itself refuses: changing what is active or issued, unbalanced postings."""

from typing import ClassVar

from django.db import migrations

FORWARD = """
CREATE FUNCTION billing_refuse_planversion_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.state <> 'draft' THEN
            RAISE EXCEPTION 'plan version % is %: it cannot be deleted', OLD.id, OLD.state
                USING ERRCODE = '23514', CONSTRAINT = 'planversion_active_is_immutable';
        END IF;
        RETURN OLD;
    END IF;
    IF OLD.state <> 'draft' AND (
        to_jsonb(NEW) - ARRAY['state', 'archived_at', 'activated_at']
        <> to_jsonb(OLD) - ARRAY['state', 'archived_at', 'activated_at'] OR NEW.state = 'draft') THEN
        RAISE EXCEPTION 'plan version % is %: it cannot change', OLD.id, OLD.state
            USING ERRCODE = '23514', CONSTRAINT = 'planversion_active_is_immutable';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER planversion_active_is_immutable BEFORE UPDATE OR DELETE ON billing_planversion
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_planversion_change();

CREATE FUNCTION billing_refuse_planentitlement_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wanted bigint := CASE TG_OP WHEN 'DELETE' THEN OLD.version_id ELSE NEW.version_id END;
BEGIN
    IF EXISTS (SELECT FROM billing_planversion WHERE id = wanted AND state <> 'draft') THEN
        RAISE EXCEPTION 'plan version % is active: its entitlements cannot change', wanted
            USING ERRCODE = '23514', CONSTRAINT = 'planversion_active_is_immutable';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER planentitlement_active_is_immutable
    BEFORE INSERT OR UPDATE OR DELETE ON billing_planentitlement
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_planentitlement_change();

CREATE FUNCTION billing_refuse_invoice_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.status <> 'draft' THEN
            RAISE EXCEPTION 'invoice % is issued: it cannot be deleted', OLD.number
                USING ERRCODE = '23514', CONSTRAINT = 'invoice_issued_is_immutable';
        END IF;
        RETURN OLD;
    END IF;
    IF OLD.status <> 'draft' AND (
        NEW.status = 'draft'
        OR (NEW.number, NEW.customer_id, NEW.currency, NEW.total, NEW.period_start_at,
            NEW.period_end_at, NEW.issued_at)
           IS DISTINCT FROM
           (OLD.number, OLD.customer_id, OLD.currency, OLD.total, OLD.period_start_at,
            OLD.period_end_at, OLD.issued_at)
        OR (OLD.status IN ('paid', 'void') AND NEW.status <> OLD.status)) THEN
        RAISE EXCEPTION 'invoice % is issued: it cannot change', OLD.number
            USING ERRCODE = '23514', CONSTRAINT = 'invoice_issued_is_immutable';
    END IF;
    IF OLD.status = 'draft' AND NEW.status <> 'draft' AND NEW.total <> (
        SELECT coalesce(sum(amount), 0) FROM billing_invoiceline WHERE invoice_id = NEW.id) THEN
        RAISE EXCEPTION 'invoice % does not equal the sum of its lines', NEW.number
            USING ERRCODE = '23514', CONSTRAINT = 'invoice_total_is_sum_of_lines';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_issued_is_immutable BEFORE UPDATE OR DELETE ON billing_invoice
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_invoice_change();

CREATE FUNCTION billing_refuse_line_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bill bigint := CASE TG_OP WHEN 'DELETE' THEN OLD.invoice_id ELSE NEW.invoice_id END;
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'stripe_line' = to_jsonb(OLD) - 'stripe_line' THEN
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM billing_invoice WHERE id = bill AND status <> 'draft') THEN
        RAISE EXCEPTION 'the invoice of this line is issued: it cannot change'
            USING ERRCODE = '23514', CONSTRAINT = 'invoice_issued_is_immutable';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER invoiceline_issued_is_immutable
    BEFORE INSERT OR UPDATE OR DELETE ON billing_invoiceline
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_line_change();

CREATE FUNCTION billing_refuse_unbalanced_posting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM billing_ledgerentry WHERE posting_id = NEW.posting_id
         GROUP BY currency HAVING sum(amount) <> 0) THEN
        RAISE EXCEPTION 'the entries of posting % do not sum to zero', NEW.posting_id
            USING ERRCODE = '23514', CONSTRAINT = 'ledgerposting_sums_to_zero';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledgerposting_sums_to_zero AFTER INSERT ON billing_ledgerentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_refuse_unbalanced_posting();

CREATE FUNCTION billing_refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only'
        USING ERRCODE = '23514', CONSTRAINT = 'ledger_is_append_only';
END $$;
CREATE TRIGGER ledgerentry_is_append_only BEFORE UPDATE OR DELETE ON billing_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_ledger_change();
CREATE TRIGGER ledgerposting_is_append_only BEFORE UPDATE OR DELETE ON billing_ledgerposting
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_ledger_change();
"""
BACKWARD = """
DROP FUNCTION billing_refuse_planversion_change CASCADE;
DROP FUNCTION billing_refuse_planentitlement_change CASCADE;
DROP FUNCTION billing_refuse_invoice_change CASCADE;
DROP FUNCTION billing_refuse_line_change CASCADE;
DROP FUNCTION billing_refuse_unbalanced_posting CASCADE;
DROP FUNCTION billing_refuse_ledger_change CASCADE;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("billing", "0001_initial")]
    operations: ClassVar = [migrations.RunSQL(FORWARD, BACKWARD)]
