-- The tables of Flint in PostgreSQL; flint.* stands for the schema's name. They are made once.

create schema if not exists "flint";

-- Which tables these are.
create table flint.installed (version int4 not null);
insert into flint.installed values (1);

-- ---- Tables ------------------------------------------------------------------------------------

-- Counts the changes of templates. Whoever changes one holds this row's lock.
create table flint.epoch (
  only_row bool primary key default true check (only_row),
  epoch int8 not null,
  at_ns int8 not null
);
insert into flint.epoch values (true, 0, 0);

-- An id is the key's bytes, or for more than 255 of them 0xff and their SHA-256: an index holds no
-- longer values, and no UTF-8 begins with 0xff.
create table flint.templates (
  template_id int8 generated always as identity primary key,
  id bytea not null,
  prefix bytea not null,
  name bytea not null,
  algorithm int2 not null,
  stack bool not null,
  rate int8 not null,
  per_ns int8 not null,
  burst int8 not null,
  unique (id, name)
);

-- What counters go through when they are next used. kind: 1 configured, 2 removed, 3 reset.
create table flint.changes (
  epoch int8 primary key,
  kind int2 not null,
  at_ns int8 not null,
  template_id int8 not null,
  prefix bytea not null,
  name bytea not null,
  ends_shorter bool not null,
  algorithm int2 not null,
  stack bool not null,
  rate int8 not null,
  per_ns int8 not null,
  burst int8 not null
);

-- kind: 0 a limit of the key's own, 2 a counter under a template, 3 a limit that came with a check.
-- state1 to state3 are, by algorithm: 1 to 3 (buckets) the arrival time and its fraction; 4 (fixed
-- window) its start and what is used; 5 (log) its number in flint.log, the units and the entries up
-- to the newest; 6 (sliding counter) the window's index, the units before it and in it.
create table flint.counters (
  id bytea not null,
  name bytea not null,
  long_key bytea,
  kind int2 not null,
  template_id int8,
  prefix_bytes int4,
  epoch int8 not null,
  algorithm int2 not null,
  stack bool not null,
  rate int8 not null,
  per_ns int8 not null,
  burst int8 not null,
  state1 int8 not null,
  state2 int8 not null,
  state3 int8 not null,
  last_ns int8 not null,
  allowed int8 not null,
  denied int8 not null,
  allowed_cost int8 not null,
  denied_cost int8 not null,
  last_allowed_ns int8,
  last_denied_ns int8,
  last_reset_ns int8,
  primary key (id, name)
) with (fillfactor = 70);

-- The admissions of a sliding_window_log, with the units and the entries up to each. The newest of
-- those that have left the window stays, to count from.
create table flint.log (
  log int8,
  at_ns int8,
  units int8 not null,
  entries int8 not null,
  primary key (log, at_ns)
);
create sequence flint.logs;

-- What forgotten counters had counted, in several rows, so that sessions do not wait for each
-- other.
create table flint.sums (
  template_id int8,
  slot int4,
  allowed int8 not null,
  denied int8 not null,
  allowed_cost int8 not null,
  denied_cost int8 not null,
  last_allowed_ns int8,
  last_denied_ns int8,
  last_reset_ns int8,
  primary key (template_id, slot)
) with (fillfactor = 50);

-- ---- Types -------------------------------------------------------------------------------------

create type flint.totals as (
  template_id int8,
  allowed int8,
  denied int8,
  allowed_cost int8,
  denied_cost int8,
  last_allowed_ns int8,
  last_denied_ns int8,
  last_reset_ns int8
);

-- A counter, and what a call makes of it. status: 0 fine, 1 the caller's templates are old,
-- 2 no limit, 3 too many limits, 4 the cost is above the burst.
create type flint.claim as (
  id bytea,
  name bytea,
  long_key bytea,
  kind int2,
  template_id int8,
  prefix_bytes int4,
  epoch int8,
  algorithm int2,
  stack bool,
  rate int8,
  per_ns int8,
  burst int8,
  state1 int8,
  state2 int8,
  state3 int8,
  last_ns int8,
  allowed int8,
  denied int8,
  allowed_cost int8,
  denied_cost int8,
  last_allowed_ns int8,
  last_denied_ns int8,
  last_reset_ns int8,
  status int4,
  item int4,
  cost int8,
  found bool,
  allows bool,
  changed bool,
  now_ns int8,
  old_log int8,
  log_units int8,
  log_entries int8,
  oldest_ns int8,
  leaves_ns int8,
  forgotten flint.totals[]
);
