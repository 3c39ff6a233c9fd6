--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: add_month(bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.add_month(first bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '1s'
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    month timestamp := to_timestamp(first) AT TIME ZONE 'UTC';
    until bigint    := extract(epoch FROM month + interval '1 month');
    name  text      := to_char(month, '"bucket_"YYYY_MM');
BEGIN
    IF month <> date_trunc('month', month) THEN
        RAISE EXCEPTION 'a partition of bucket is a month of UTC; none begins at %', month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('CREATE TABLE %1$I (LIKE bucket INCLUDING ALL,
        CONSTRAINT %2$I CHECK (window_start >= %3$s AND window_start < %4$s AND window_end <= %4$s))', name, name || '_window', first, until);
    EXECUTE format('ALTER TABLE bucket ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, first, until);
END
$_$;


--
-- Name: drop_month(bigint, bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.drop_month(leader bigint, first bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '1s'
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    name   text := to_char(to_timestamp(first) AT TIME ZONE 'UTC', '"bucket_"YYYY_MM');
    newest record;
BEGIN
    LOCK TABLE ONLY bucket IN ACCESS EXCLUSIVE MODE;
    -- Only what is a partition, not a table that somebody detached and kept.
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'bucket'::regclass AND inhrelid = to_regclass(name)) THEN
        RETURN EXISTS (SELECT FROM log WHERE term = leader);
    END IF;
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name);
    EXECUTE format('SELECT revision, chain FROM %I ORDER BY revision DESC LIMIT 1', name) INTO newest;
    UPDATE log SET floor = greatest(floor, newest.revision),
        floor_chain = CASE WHEN newest.revision > floor THEN newest.chain ELSE floor_chain END
    WHERE term = leader;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END
$$;


--
-- Name: drop_month(bigint, bigint, timestamp with time zone); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.drop_month(leader bigint, first bigint, forget timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '1s'
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    name   text := to_char(to_timestamp(first) AT TIME ZONE 'UTC', '"bucket_"YYYY_MM');
    newest record;
BEGIN
    LOCK TABLE ONLY bucket IN ACCESS EXCLUSIVE MODE;
    -- Only what is a partition, not a table that somebody detached and kept.
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'bucket'::regclass AND inhrelid = to_regclass(name)) THEN
        RETURN EXISTS (SELECT FROM log WHERE term = leader);
    END IF;
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name);
    EXECUTE format('SELECT revision, chain FROM %I WHERE committed_at <= $1 ORDER BY revision DESC LIMIT 1', name) INTO newest USING forget;
    IF NOT raise_floor(leader, newest.revision, newest.chain) THEN
        RETURN false;
    END IF;
    EXECUTE format('INSERT INTO event (kind, revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at,
            sample_interval, row_count, finality, origin, variant, chain, checksum, payload)
        SELECT 6, revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at,
            sample_interval, row_count, finality, origin, variant, chain, sha256(''''::bytea), ''''::bytea FROM %I WHERE committed_at > $1', name) USING forget;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END
$_$;


--
-- Name: drop_restatements(bigint, bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.drop_restatements(leader bigint, before bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '1s'
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF NOT raise_floor(leader, 0, ''::bytea) THEN -- which leaves the floor, and holds the term
        RETURN false;
    END IF;
    WITH gone AS (DELETE FROM event e WHERE e.kind = 5 AND e.window_end <= before RETURNING e.*)
    INSERT INTO event (kind, revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at,
            sample_interval, row_count, finality, origin, variant, chain, checksum, payload)
        SELECT 6, revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at,
            sample_interval, row_count, finality, origin, variant, chain, sha256(''::bytea), ''::bytea FROM gone;
    RETURN true;
END
$$;


--
-- Name: forget_dropped(bigint, timestamp with time zone); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.forget_dropped(leader bigint, forget timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '1s'
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    newest record;
BEGIN
    SELECT e.revision, e.chain FROM event e WHERE e.kind = 6 AND e.committed_at <= forget ORDER BY e.revision DESC LIMIT 1 INTO newest;
    IF NOT raise_floor(leader, newest.revision, newest.chain) THEN
        RETURN false;
    END IF;
    DELETE FROM event e WHERE e.kind = 6 AND e.committed_at <= forget;
    RETURN true;
END
$$;


--
-- Name: raise_floor(bigint, bigint, bytea); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.raise_floor(leader bigint, revision bigint, chain bytea) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $_$
BEGIN
    UPDATE log SET floor = greatest(floor, $2), floor_chain = CASE WHEN $2 > floor THEN $3 ELSE floor_chain END
    WHERE term = leader;
    RETURN FOUND;
END
$_$;


--
-- Name: refuse_update(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.refuse_update() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'entries of the log are final: % may not be updated', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'A correction is a restatement.';
END
$$;


SET default_tablespace = '';

--
-- Name: bucket; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.bucket (
    revision bigint NOT NULL,
    dataset text NOT NULL COLLATE pg_catalog."C",
    scope_kind smallint NOT NULL,
    scope_id bytea NOT NULL,
    window_start bigint NOT NULL,
    window_end bigint NOT NULL,
    committed_at timestamp with time zone NOT NULL,
    sample_interval double precision NOT NULL,
    row_count integer NOT NULL,
    finality smallint NOT NULL,
    origin smallint NOT NULL,
    variant text NOT NULL,
    chain bytea NOT NULL,
    checksum bytea NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT bucket_check CHECK ((window_end > window_start)),
    CONSTRAINT bucket_scope_id_check CHECK ((octet_length(scope_id) = 16)),
    CONSTRAINT bucket_scope_kind_check CHECK ((scope_kind = ANY (ARRAY[1, 2])))
)
PARTITION BY RANGE (window_start);


SET default_table_access_method = heap;

--
-- Name: bucket_2026_10; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.bucket_2026_10 (
    revision bigint NOT NULL,
    dataset text NOT NULL COLLATE pg_catalog."C",
    scope_kind smallint NOT NULL,
    scope_id bytea NOT NULL,
    window_start bigint NOT NULL,
    window_end bigint NOT NULL,
    committed_at timestamp with time zone NOT NULL,
    sample_interval double precision NOT NULL,
    row_count integer NOT NULL,
    finality smallint NOT NULL,
    origin smallint NOT NULL,
    variant text NOT NULL,
    chain bytea NOT NULL,
    checksum bytea NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT bucket_2026_10_window CHECK (((window_start >= 1790812800) AND (window_start < 1793491200) AND (window_end <= 1793491200))),
    CONSTRAINT bucket_check CHECK ((window_end > window_start)),
    CONSTRAINT bucket_scope_id_check CHECK ((octet_length(scope_id) = 16)),
    CONSTRAINT bucket_scope_kind_check CHECK ((scope_kind = ANY (ARRAY[1, 2])))
);


--
-- Name: bucket_2026_11; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.bucket_2026_11 (
    revision bigint NOT NULL,
    dataset text NOT NULL COLLATE pg_catalog."C",
    scope_kind smallint NOT NULL,
    scope_id bytea NOT NULL,
    window_start bigint NOT NULL,
    window_end bigint NOT NULL,
    committed_at timestamp with time zone NOT NULL,
    sample_interval double precision NOT NULL,
    row_count integer NOT NULL,
    finality smallint NOT NULL,
    origin smallint NOT NULL,
    variant text NOT NULL,
    chain bytea NOT NULL,
    checksum bytea NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT bucket_2026_11_window CHECK (((window_start >= 1793491200) AND (window_start < 1796083200) AND (window_end <= 1796083200))),
    CONSTRAINT bucket_check CHECK ((window_end > window_start)),
    CONSTRAINT bucket_scope_id_check CHECK ((octet_length(scope_id) = 16)),
    CONSTRAINT bucket_scope_kind_check CHECK ((scope_kind = ANY (ARRAY[1, 2])))
);


--
-- Name: bucket_view; Type: VIEW; Schema: public; Owner: -
--

CREATE VIEW public.bucket_view AS
 SELECT bucket.revision,
    bucket.dataset,
        CASE bucket.scope_kind
            WHEN 1 THEN 'zone'::text
            WHEN 2 THEN 'account'::text
            ELSE NULL::text
        END AS scope,
    encode(bucket.scope_id, 'hex'::text) AS scope_id,
    to_timestamp((bucket.window_start)::double precision) AS window_start,
    to_timestamp((bucket.window_end)::double precision) AS window_end,
    bucket.committed_at,
        CASE bucket.finality
            WHEN 1 THEN 'confirmed'::text
            WHEN 2 THEN 'deadline'::text
            WHEN 3 THEN 'suspect-confirmed'::text
            ELSE NULL::text
        END AS finality,
        CASE bucket.origin
            WHEN 1 THEN 'live'::text
            WHEN 2 THEN 'repair'::text
            WHEN 3 THEN 'backfill'::text
            ELSE NULL::text
        END AS origin,
    bucket.variant,
    bucket.row_count,
    bucket.sample_interval,
    octet_length(bucket.payload) AS payload_bytes,
    (sha256(bucket.payload) = bucket.checksum) AS intact
   FROM public.bucket;


--
-- Name: coverage_view; Type: VIEW; Schema: public; Owner: -
--

CREATE VIEW public.coverage_view AS
 SELECT i.dataset,
        CASE i.scope_kind
            WHEN 1 THEN 'zone'::text
            WHEN 2 THEN 'account'::text
            ELSE NULL::text
        END AS scope,
    encode(i.scope_id, 'hex'::text) AS scope_id,
    to_timestamp((min(i.window_start))::double precision) AS covered_from,
    to_timestamp((max(i.window_end))::double precision) AS covered_until,
    count(*) AS buckets
   FROM ( SELECT b.revision,
            b.dataset,
            b.scope_kind,
            b.scope_id,
            b.window_start,
            b.window_end,
            b.committed_at,
            b.sample_interval,
            b.row_count,
            b.finality,
            b.origin,
            b.variant,
            b.chain,
            b.checksum,
            b.payload,
            b.begins,
            count(*) FILTER (WHERE b.begins) OVER same AS island
           FROM ( SELECT bucket.revision,
                    bucket.dataset,
                    bucket.scope_kind,
                    bucket.scope_id,
                    bucket.window_start,
                    bucket.window_end,
                    bucket.committed_at,
                    bucket.sample_interval,
                    bucket.row_count,
                    bucket.finality,
                    bucket.origin,
                    bucket.variant,
                    bucket.chain,
                    bucket.checksum,
                    bucket.payload,
                    (bucket.window_start > COALESCE(max(bucket.window_end) OVER (same ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), (bucket.window_start - 1))) AS begins
                   FROM public.bucket
                  WINDOW same AS (PARTITION BY bucket.dataset, bucket.scope_kind, bucket.scope_id ORDER BY bucket.window_start)) b
          WINDOW same AS (PARTITION BY b.dataset, b.scope_kind, b.scope_id ORDER BY b.window_start)) i
  GROUP BY i.dataset, i.scope_kind, i.scope_id, i.island;


--
-- Name: event; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.event (
    revision bigint NOT NULL,
    kind smallint NOT NULL,
    dataset text NOT NULL COLLATE pg_catalog."C",
    scope_kind smallint NOT NULL,
    scope_id bytea NOT NULL,
    window_start bigint NOT NULL,
    window_end bigint NOT NULL,
    committed_at timestamp with time zone NOT NULL,
    sample_interval double precision NOT NULL,
    row_count integer NOT NULL,
    finality smallint NOT NULL,
    origin smallint NOT NULL,
    variant text NOT NULL,
    chain bytea NOT NULL,
    checksum bytea NOT NULL,
    payload bytea NOT NULL
);


--
-- Name: event_view; Type: VIEW; Schema: public; Owner: -
--

CREATE VIEW public.event_view AS
 SELECT event.revision,
        CASE event.kind
            WHEN 2 THEN 'dataset version'::text
            WHEN 3 THEN 'gap decision'::text
            WHEN 4 THEN 'state'::text
            WHEN 5 THEN 'restatement'::text
            WHEN 6 THEN 'dropped'::text
            WHEN 7 THEN 'audit event'::text
            ELSE NULL::text
        END AS kind,
    event.dataset,
        CASE event.scope_kind
            WHEN 1 THEN 'zone'::text
            WHEN 2 THEN 'account'::text
            ELSE NULL::text
        END AS scope,
    encode(event.scope_id, 'hex'::text) AS scope_id,
        CASE
            WHEN (event.window_start <> 0) THEN to_timestamp((event.window_start)::double precision)
            ELSE NULL::timestamp with time zone
        END AS window_start,
    event.committed_at,
    octet_length(event.payload) AS payload_bytes,
    (sha256(event.payload) = event.checksum) AS intact
   FROM public.event;


--
-- Name: log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.log (
    one boolean DEFAULT true NOT NULL,
    store_id text NOT NULL,
    sample_timestamp text NOT NULL,
    simulated boolean NOT NULL,
    head bigint DEFAULT 0 NOT NULL,
    chain bytea NOT NULL,
    committed_at timestamp with time zone,
    progress_at timestamp with time zone,
    floor bigint DEFAULT 0 NOT NULL,
    floor_chain bytea NOT NULL,
    term bigint DEFAULT 0 NOT NULL,
    holder text DEFAULT ''::text NOT NULL,
    expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT log_chain_check CHECK ((octet_length(chain) = 16)),
    CONSTRAINT log_check CHECK (((floor >= 0) AND (floor <= head))),
    CONSTRAINT log_floor_chain_check CHECK ((octet_length(floor_chain) = 16)),
    CONSTRAINT log_one_check CHECK (one),
    CONSTRAINT log_sample_timestamp_check CHECK ((sample_timestamp = ANY (ARRAY['end'::text, 'start'::text])))
);


--
-- Name: lease_view; Type: VIEW; Schema: public; Owner: -
--

CREATE VIEW public.lease_view AS
 SELECT log.holder,
    log.term,
    log.expires_at,
    (log.expires_at > now()) AS held,
    log.head,
    log.floor,
    log.committed_at,
    log.progress_at,
    (now() - log.progress_at) AS progress_age
   FROM public.log;


--
-- Name: migration; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.migration (
    id integer NOT NULL,
    version_id bigint NOT NULL,
    is_applied boolean NOT NULL,
    tstamp timestamp without time zone DEFAULT now() NOT NULL
);


--
-- Name: migration_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.migration ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.migration_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: migration_lock; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.migration_lock (
    one boolean DEFAULT true NOT NULL,
    CONSTRAINT migration_lock_one_check CHECK (one)
);


--
-- Name: permit; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.permit (
    username text NOT NULL,
    number bigint NOT NULL,
    blocks jsonb NOT NULL
);


--
-- Name: permit_view; Type: VIEW; Schema: public; Owner: -
--

CREATE VIEW public.permit_view AS
 SELECT p.username,
    b.n,
    b.until,
    b.holder,
    (b.until > now()) AS counts
   FROM public.permit p,
    LATERAL jsonb_to_recordset(p.blocks) b(n integer, until timestamp with time zone, holder text);


--
-- Name: record; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.record (
    kind text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    value jsonb NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: schema; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.schema (
    one boolean DEFAULT true NOT NULL,
    version integer NOT NULL,
    oldest_compatible integer NOT NULL,
    CONSTRAINT schema_check CHECK ((oldest_compatible <= version)),
    CONSTRAINT schema_one_check CHECK (one)
);


--
-- Name: bucket_2026_10; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.bucket ATTACH PARTITION public.bucket_2026_10 FOR VALUES FROM ('1790812800') TO ('1793491200');


--
-- Name: bucket_2026_11; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.bucket ATTACH PARTITION public.bucket_2026_11 FOR VALUES FROM ('1793491200') TO ('1796083200');


--
-- Data for Name: bucket_2026_10; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.bucket_2026_10 (revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at, sample_interval, row_count, finality, origin, variant, chain, checksum, payload) FROM stdin;
6	http_5m	1	\\x00000000000000000000000000000001	1793318400	1793318700	2026-10-30 00:00:02.123+00	1	3	1	1	rollup	\\x04f3edb2917a6397fca35a1bcc0860d7	\\xc675bd3c383736c79721a8bdc7bdb69b0e0a0fdf0f03f63995a4be167cffbb30	\\x687474705f356d207a6f6e652030303030303030303030303030303030303030303030303030303030303030312030
7	http_5m	1	\\x00000000000000000000000000000002	1793318400	1793318700	2026-10-30 00:00:02.123+00	1	3	1	1	rollup	\\x473432895c0fc2fea72ff6a72d1b65d6	\\x3f3d629a132cc7e3c87c3192f09b80e9a2cff8a9f177b5a3e99e92d0cc12019d	\\x687474705f356d207a6f6e652030303030303030303030303030303030303030303030303030303030303030322030
8	uniques_1h	1	\\x00000000000000000000000000000001	1793318400	1793322000	2026-10-30 00:00:02.123+00	1	3	1	1	rollup	\\xd9d9e3377cc8866e0c985249150a569a	\\x8f5be7075e8412ced6fc7b98dda847fe4152c392802521b5fda2061ca6244307	\\x756e69717565735f3168207a6f6e652030303030303030303030303030303030303030303030303030303030303030312030
10	http_5m	1	\\x00000000000000000000000000000002	1793318700	1793319000	2026-10-30 00:00:03.123+00	1	3	1	1	rollup	\\x77973033cdac9c9d4757b596b7ea8f5d	\\x75f854e6cfd24c440140d631853c3d93d4095dbf7ef598560b69c20561646117	\\x687474705f356d207a6f6e652030303030303030303030303030303030303030303030303030303030303030322031
14	http_5m	1	\\x00000000000000000000000000000002	1793319300	1793319600	2026-10-30 00:00:05.123+00	10.25	3	3	2	adaptive · ü	\\x091120fb5f4b4192727ace09624c8455	\\x60bb9e83f01cf346abc044dab051a9b592f349eb8bfb4cb0463851cb3438f274	\\x00ff275c0a78
\.


--
-- Data for Name: bucket_2026_11; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.bucket_2026_11 (revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at, sample_interval, row_count, finality, origin, variant, chain, checksum, payload) FROM stdin;
9	http_5m	1	\\x00000000000000000000000000000001	1793491200	1793491500	2026-10-30 00:00:03.123+00	1	3	1	1	rollup	\\xfb418c04f63ae9b1261ab2f499cc8464	\\xbafcd7a27b2aac4ff499d7628249a00d001bc1ec5ad13175c3e23ad54bc0c231	\\x687474705f356d207a6f6e6520303030303030303030303030303030303030303030303030303030303030303120353736
11	uniques_1d	2	\\x00000000000000000000000000000001	1793577600	1793664000	2026-10-30 00:00:03.123+00	1	3	1	1	rollup	\\x2d8a5a659ed335fa5bbd9ea7b9cabc3b	\\x790505639186cc68a1de5669777d4097465a443eb6af44215da15bbb3b055b78	\\x756e69717565735f3164206163636f756e742030303030303030303030303030303030303030303030303030303030303030312033
16	http_5m	1	\\x00000000000000000000000000000001	1793577600	1793577900	2026-10-30 00:00:05.123+00	1	3	1	1	rollup	\\xe0deb1fd120b60f93f234d360442af3a	\\x5ffcc695abfa8c9a7941b67ddd5d5cabe0d6224b65c80cdb48e3060846073f0a	\\x687474705f356d207a6f6e6520303030303030303030303030303030303030303030303030303030303030303120383634
\.


--
-- Data for Name: event; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.event (revision, kind, dataset, scope_kind, scope_id, window_start, window_end, committed_at, sample_interval, row_count, finality, origin, variant, chain, checksum, payload) FROM stdin;
1	2	http_5m	0	\\x	0	0	2026-10-30 00:00:00.123+00	0	0	0	0		\\x59ac52e69ab537580a05e0ee1f41b7d5	\\xf61fdf7f3f77cc762618a6729d569c44a9f497b5b9654b1abbc63ae41b22a169	\\x687474705f356d2076657273696f6e2031
2	2	uniques_1h	0	\\x	0	0	2026-10-30 00:00:00.123+00	0	0	0	0		\\x3b7ba163e9ceaa63ac3d209daac0ce50	\\x88459a4fef9a45ecd56c0325655b6bb341f8bc065685c00e9e5e9a2f98987de9	\\x756e69717565735f31682076657273696f6e2031
12	3	http_5m	1	\\x00000000000000000000000000000002	1793318400	1793322000	2026-10-30 00:00:04.123+00	0	0	0	0		\\x62958babc85e1fb2da16dad08ac5474b	\\x76f75e6129fe30135bd44d80ab7cc46fdba81907758dc808f3e2517beef2b1e9	\\x6c6f7374
13	4	tunnel	2	\\x00000000000000000000000000000003	0	0	2026-10-30 00:00:04.123+00	0	0	0	0		\\xdfe0a46384f9af117ec983b0a2bc3d67	\\x87695fdac81728b9d7f2d4a1335c2632bb5e6ba1bed21d2dff0254fba31c7d5b	\\x6865616c746879
15	2	http_5m	0	\\x	0	0	2026-10-30 00:00:05.123+00	0	0	0	0		\\x1094d49e75f2775f498836f5312f9110	\\x7feac569a09ddc8c771c7dc22a356e88e8da90e3c2adc333a81ca445cf0aa4c6	\\x687474705f356d2076657273696f6e2032
17	5	http_5m	1	\\x00000000000000000000000000000002	1793318700	1793319000	2026-10-30 00:00:05.123+00	1	3	1	1	rollup	\\xe8907b6b367d24e224c459600c9c2b63	\\x17780e57a9341151b8aa90d46abef2f68f80f066afd62997dba3ffa1f94acb6a	\\x617320636f72726563746564
\.


--
-- Data for Name: log; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.log (one, store_id, sample_timestamp, simulated, head, chain, committed_at, progress_at, floor, floor_chain, term, holder, expires_at, created_at) FROM stdin;
t	cee144666f5e898a27eb2204f4c441f8	end	f	17	\\xe8907b6b367d24e224c459600c9c2b63	2026-10-30 00:00:05.123+00	2026-10-30 00:01:40.123+00	5	\\x8d818949ce45a4d5ae20a9c35957b89a	1	historian	2026-11-30 13:58:54.391548+00	2026-11-30 12:58:53.955697+00
\.


--
-- Data for Name: migration; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.migration (id, version_id, is_applied, tstamp) FROM stdin;
1	0	t	2026-11-30 12:58:50.790136
2	1	t	2026-11-30 12:58:50.915627
3	2	t	2026-11-30 12:58:51.3399
4	3	t	2026-11-30 12:58:51.381525
5	4	t	2026-11-30 12:58:51.427566
\.


--
-- Data for Name: migration_lock; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.migration_lock (one) FROM stdin;
t
\.


--
-- Data for Name: permit; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.permit (username, number, blocks) FROM stdin;
u	1	[{"n": 7, "until": "2026-10-30T00:06:00.123Z", "holder": "historian"}]
\.


--
-- Data for Name: record; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.record (kind, key, value, updated_at) FROM stdin;
scope	é	["one", null]	2026-11-30 12:58:54.249234+00
gap	http_5m 9	12345678901234567890	2026-11-30 12:58:54.271491+00
\.


--
-- Data for Name: schema; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.schema (one, version, oldest_compatible) FROM stdin;
t	4	1
\.


--
-- Name: migration_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.migration_id_seq', 5, true);


--
-- Name: bucket bucket_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.bucket
    ADD CONSTRAINT bucket_pkey PRIMARY KEY (dataset, window_start, scope_kind, scope_id) INCLUDE (window_end);


--
-- Name: bucket_2026_10 bucket_2026_10_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.bucket_2026_10
    ADD CONSTRAINT bucket_2026_10_pkey PRIMARY KEY (dataset, window_start, scope_kind, scope_id) INCLUDE (window_end);


--
-- Name: bucket_2026_11 bucket_2026_11_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.bucket_2026_11
    ADD CONSTRAINT bucket_2026_11_pkey PRIMARY KEY (dataset, window_start, scope_kind, scope_id) INCLUDE (window_end);


--
-- Name: event event_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (revision);


--
-- Name: log log_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log
    ADD CONSTRAINT log_pkey PRIMARY KEY (one);


--
-- Name: migration_lock migration_lock_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.migration_lock
    ADD CONSTRAINT migration_lock_pkey PRIMARY KEY (one);


--
-- Name: migration migration_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (id);


--
-- Name: permit permit_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.permit
    ADD CONSTRAINT permit_pkey PRIMARY KEY (username);


--
-- Name: record record_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.record
    ADD CONSTRAINT record_pkey PRIMARY KEY (kind, key);


--
-- Name: schema schema_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.schema
    ADD CONSTRAINT schema_pkey PRIMARY KEY (one);


--
-- Name: bucket_revision; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX bucket_revision ON ONLY public.bucket USING btree (revision);


--
-- Name: bucket_2026_10_revision_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX bucket_2026_10_revision_idx ON public.bucket_2026_10 USING btree (revision);


--
-- Name: bucket_2026_11_revision_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX bucket_2026_11_revision_idx ON public.bucket_2026_11 USING btree (revision);


--
-- Name: event_kind; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX event_kind ON public.event USING btree (kind, revision);


--
-- Name: event_restated; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX event_restated ON public.event USING btree (dataset, window_start, scope_kind, scope_id, revision) WHERE (kind = 5);


--
-- Name: bucket_2026_10_pkey; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.bucket_pkey ATTACH PARTITION public.bucket_2026_10_pkey;


--
-- Name: bucket_2026_10_revision_idx; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.bucket_revision ATTACH PARTITION public.bucket_2026_10_revision_idx;


--
-- Name: bucket_2026_11_pkey; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.bucket_pkey ATTACH PARTITION public.bucket_2026_11_pkey;


--
-- Name: bucket_2026_11_revision_idx; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.bucket_revision ATTACH PARTITION public.bucket_2026_11_revision_idx;


--
-- Name: bucket bucket_is_final; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER bucket_is_final BEFORE UPDATE ON public.bucket FOR EACH ROW EXECUTE FUNCTION public.refuse_update();


--
-- Name: event event_is_final; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER event_is_final BEFORE UPDATE ON public.event FOR EACH ROW EXECUTE FUNCTION public.refuse_update();


--
-- PostgreSQL database dump complete
--


