-- The stream has every row whole.
--
-- PostgreSQL keeps a row below a quarter of a page where it can: larger values go out of line, and an
-- UPDATE that leaves such a value as it is writes only a pointer to it into the log. The stream then
-- lacks that column. A row of desired with some hundred sources is that large, and so is one of
-- decided with long reasons; what gave way first was the short columns, even the node's name.
--
-- So the short columns stay in the row, and whatever UPDATE touches a large row makes all of it anew.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (17, 'whole_rows');

ALTER TABLE headwater.desired
    ALTER COLUMN node SET STORAGE PLAIN,
    ALTER COLUMN digest SET STORAGE PLAIN,
    ALTER COLUMN media_type SET STORAGE PLAIN;
ALTER TABLE headwater.decided
    ALTER COLUMN node SET STORAGE PLAIN;

-- A value that was read and written again is no pointer any more.
CREATE FUNCTION headwater.whole_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RETURN jsonb_populate_record(NEW, to_jsonb(NEW));
END
$$;

-- Only what is larger than this may be out of line; the smaller ones, nearly all, cost no call.
CREATE TRIGGER whole_row BEFORE UPDATE ON headwater.desired FOR EACH ROW
    WHEN (pg_column_size(NEW.sources) > 1000) EXECUTE FUNCTION headwater.whole_row();
ALTER TABLE headwater.desired ENABLE ALWAYS TRIGGER whole_row;
CREATE TRIGGER whole_row BEFORE UPDATE ON headwater.decided FOR EACH ROW
    WHEN (pg_column_size(NEW.decisions) > 1000) EXECUTE FUNCTION headwater.whole_row();
ALTER TABLE headwater.decided ENABLE ALWAYS TRIGGER whole_row;

-- What is out of line by now comes back into the row.
UPDATE headwater.desired
SET node = node || '', digest = digest || '', media_type = media_type || ''
WHERE pg_column_size(sources) > 1000;
UPDATE headwater.decided SET node = node || '' WHERE pg_column_size(decisions) > 1000;

COMMIT;
