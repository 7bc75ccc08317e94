-- The functions of Flint in PostgreSQL; flint.* stands for the schema's name. They are replaced by
-- those of another version.
--
-- What decides is what the engine in cpp_core/algorithms does, in integers of 64 bits; numeric is
-- used for products that may have more. A function that begins with _ is for the others; those
-- that programs call begin with v1_, and a later version adds v2_ beside them.
--
-- Locks are taken in this order: the epoch, counters by (id, name), sums by (template_id, slot).

-- ---- Arithmetic --------------------------------------------------------------------------------

create or replace function flint.now_ns() returns int8 language sql volatile as $$
  select (extract(epoch from clock_timestamp()) * 1000000)::int8 * 1000
$$;

create or replace function flint._add(a int8, b int8) returns int8 language sql immutable as $$
  select case when a > 9223372036854775807 - b then 9223372036854775807 else a + b end
$$;

-- units * per / rate, as whole nanoseconds and a fraction of 1/rate.
create or replace function flint._span(units int8, per_ns int8, rate int8, out ns int8,
  out fraction int8)
language plpgsql immutable as $$
begin
  if units <= 9223372036854775807 / per_ns then
    ns := units * per_ns / rate;
    fraction := units * per_ns % rate;
  else
    ns := div(units::numeric * per_ns, rate);
    fraction := units::numeric * per_ns % rate;
  end if;
end
$$;

-- Whether it cannot be told from a new counter.
create or replace function flint._fresh(c flint.claim, now_ns int8)
returns bool language plpgsql immutable as $$
begin
  if c.algorithm <= 3 then
    return c.state1 < now_ns or (c.state1 = now_ns and c.state2 = 0);
  elsif c.algorithm = 4 then
    return c.state2 = 0 or now_ns - c.state1 >= c.per_ns;
  elsif c.algorithm = 5 then
    return c.state2 = 0 or c.last_ns <= now_ns - c.per_ns;
  end if;
  return (c.state3 = 0 or now_ns / c.per_ns > c.state1 + 1)
    and (c.state2 = 0 or now_ns / c.per_ns > c.state1);
end
$$;

-- The units used as of a time, rounded up.
create or replace function flint._used(c flint.claim, p_at_ns int8)
returns int8 language plpgsql stable as $$
declare
  v_before numeric;
begin
  if flint._fresh(c, p_at_ns) then
    return 0;
  elsif c.algorithm <= 3 then
    return least(c.burst, div((c.state1 - p_at_ns)::numeric * c.rate + c.state2 + c.per_ns - 1,
                              c.per_ns));
  elsif c.algorithm = 4 then
    return c.state2;
  elsif c.algorithm = 5 then
    return c.state2 - coalesce((select l.units from flint.log l
      where l.log = c.state1 and l.at_ns <= p_at_ns - c.per_ns order by l.at_ns desc limit 1), 0);
  end if;
  if p_at_ns / c.per_ns > c.state1 then
    c.state2 := c.state3;
    c.state3 := 0;
  end if;
  v_before := div(c.state2::numeric * (c.per_ns - p_at_ns % c.per_ns) + c.per_ns - 1, c.per_ns);
  return least(c.rate, least(v_before, c.rate) + c.state3);
end
$$;

-- It begins anew, and what it has counted goes to its template.
create or replace function flint._forget(c flint.claim)
returns flint.claim language plpgsql immutable as $$
begin
  if c.kind = 2 and (c.allowed, c.denied) <> (0, 0) or c.last_reset_ns is not null then
    c.forgotten := c.forgotten || row(c.template_id, c.allowed, c.denied, c.allowed_cost,
      c.denied_cost, c.last_allowed_ns, c.last_denied_ns, c.last_reset_ns)::flint.totals;
  end if;
  c.state1 := 0;
  c.state2 := 0;
  c.state3 := 0;
  c.log_units := 0;
  c.log_entries := 0;
  c.allowed := 0;
  c.denied := 0;
  c.allowed_cost := 0;
  c.denied_cost := 0;
  c.last_allowed_ns := null;
  c.last_denied_ns := null;
  c.last_reset_ns := null;
  return c;
end
$$;

-- Other values: what was used counts as used at the moment of the change.
create or replace function flint._migrate(c flint.claim, algorithm int2, rate int8, per_ns int8,
  burst int8,
                               at_ns int8)
returns flint.claim language plpgsql stable as $$
declare
  v_used int8 := least(flint._used(c, at_ns), burst);
begin
  c.algorithm := algorithm;
  c.rate := rate;
  c.per_ns := per_ns;
  c.burst := burst;
  c.state1 := 0;
  c.state2 := 0;
  c.state3 := 0;
  c.last_ns := at_ns;
  if v_used = 0 then
    null;
  elsif algorithm <= 3 then
    select at_ns + s.ns, s.fraction into c.state1, c.state2
      from flint._span(v_used, per_ns, rate) s;
  elsif algorithm = 4 then
    c.state1 := at_ns;
    c.state2 := v_used;
  elsif algorithm = 5 then
    c.state2 := v_used;  -- one entry at last_ns, which is not in flint.log yet
    c.state3 := 1;
  else
    c.state1 := at_ns / per_ns;
    c.state3 := v_used;
  end if;
  return c;
end
$$;

-- Whether the cost is admitted.
create or replace function flint._look(c flint.claim, now_ns int8) returns flint.claim
language plpgsql immutable as $$
declare
  v_most record;
  v_cost record;
  v_before int8 := 0;
  v_current int8 := 0;
begin
  c.now_ns := now_ns;
  if c.cost > c.burst then
    c.status := 4;
    c.allows := false;
  elsif c.algorithm <= 3 then
    v_most := flint._span(c.burst, c.per_ns, c.rate);
    v_cost := flint._span(c.cost, c.per_ns, c.rate);
    v_most.ns := v_most.ns - v_cost.ns;
    v_most.fraction := v_most.fraction - v_cost.fraction;
    if v_most.fraction < 0 then
      v_most.ns := v_most.ns - 1;
      v_most.fraction := v_most.fraction + c.rate;
    end if;
    c.allows := c.state1 < now_ns or c.state1 - now_ns < v_most.ns
      or (c.state1 - now_ns = v_most.ns and c.state2 <= v_most.fraction);
  elsif c.algorithm = 4 then
    c.allows := flint._fresh(c, now_ns) or c.state2 <= c.rate - c.cost;
  elsif c.algorithm = 5 then
    if c.state1 = 0 or flint._fresh(c, now_ns) then
      c.log_units := case when flint._fresh(c, now_ns) then 0 else c.state2 end;
      c.log_entries := sign(c.log_units);
      c.oldest_ns := c.last_ns;
      c.leaves_ns := c.last_ns;
    end if;
    c.allows := c.log_units <= c.rate - c.cost
      and (c.log_entries < 1048576 or c.last_ns = now_ns);
  else
    if now_ns / c.per_ns <= c.state1 then
      v_before := c.state2;
      v_current := c.state3;
    elsif now_ns / c.per_ns = c.state1 + 1 then
      v_before := c.state3;
    end if;
    c.allows := v_current <= c.rate - c.cost and (v_before = 0
      or v_before::numeric * (c.per_ns - now_ns % c.per_ns)
         <= (c.rate - v_current - c.cost)::numeric * c.per_ns);
  end if;
  return c;
end
$$;

-- Adds an entry to the log of a counter, and ends those that have left the window.
create or replace function flint._log(c flint.claim) returns flint.claim language plpgsql as $$
declare
  v_base record;
begin
  if c.log_entries = 0 and c.state1 = 0 then
    c.state2 := 0;
    c.state3 := 0;
  end if;
  if c.state1 = 0 then
    c.state1 := nextval('flint.logs');
    if c.state3 > 0 then
      insert into flint.log values (c.state1, c.last_ns, c.state2, 1);
    end if;
  end if;
  select l.at_ns, l.units into v_base from flint.log l
    where l.log = c.state1 and l.at_ns <= c.now_ns - c.per_ns order by l.at_ns desc limit 1;
  if found then
    delete from flint.log l where l.log = c.state1 and l.at_ns < v_base.at_ns;
  end if;
  if c.state2 >= 4611686018427387904 then
    update flint.log l set units = l.units - coalesce(v_base.units, 0) where l.log = c.state1;
    c.state2 := c.state2 - coalesce(v_base.units, 0);
  end if;
  c.state2 := c.state2 + c.cost;
  if c.log_entries > 0 and c.last_ns = c.now_ns then
    update flint.log l set units = c.state2 where l.log = c.state1 and l.at_ns = c.now_ns;
  else
    c.state3 := c.state3 + 1;
    c.log_entries := c.log_entries + 1;
    insert into flint.log values (c.state1, c.now_ns, c.state2, c.state3);
  end if;
  if c.log_entries = 1 then
    c.oldest_ns := c.now_ns;
  end if;
  c.log_units := c.log_units + c.cost;
  c.leaves_ns := null;
  return c;
end
$$;

-- Counts an admission that _look has granted.
create or replace function flint._admit(c flint.claim) returns flint.claim language plpgsql as $$
declare
  v_cost record;
  v_index int8;
begin
  if c.algorithm <= 3 then
    v_cost := flint._span(c.cost, c.per_ns, c.rate);
    if c.state1 < c.now_ns then
      c.state1 := c.now_ns;
      c.state2 := 0;
    end if;
    c.state1 := c.state1 + v_cost.ns;
    c.state2 := c.state2 + v_cost.fraction;
    if c.state2 >= c.rate then
      c.state1 := c.state1 + 1;
      c.state2 := c.state2 - c.rate;
    end if;
  elsif c.algorithm = 4 then
    if flint._fresh(c, c.now_ns) then
      c.state1 := c.now_ns;
      c.state2 := 0;
    end if;
    c.state2 := c.state2 + c.cost;
  elsif c.algorithm = 5 then
    c := flint._log(c);
  else
    v_index := c.now_ns / c.per_ns;
    if v_index > c.state1 then
      c.state2 := case when v_index = c.state1 + 1 then c.state3 else 0 end;
      c.state3 := 0;
      c.state1 := v_index;
    end if;
    c.state3 := c.state3 + c.cost;
  end if;
  c.last_ns := c.now_ns;
  c.allowed := c.allowed + 1;
  c.allowed_cost := flint._add(c.allowed_cost, c.cost);
  c.last_allowed_ns := c.now_ns;
  return c;
end
$$;

-- ---- Counters ----------------------------------------------------------------------------------

-- Takes a counter under a template through the changes since it was last used. NULL when its
-- template has been removed; kind NULL when the template does not apply any more.
create or replace function flint._caught_up(c flint.claim, p_epoch int8) returns flint.claim
language plpgsql stable as $$
declare
  v_change record;
  v_at_ns int8;
  v_own bool;
  v_takes_over bool;
begin
  for v_change in select * from flint.changes x where x.epoch > c.epoch and x.epoch <= p_epoch
    and substr(coalesce(c.long_key, c.id), 1, length(x.prefix)) = x.prefix order by x.epoch
  loop
    v_own := v_change.template_id = c.template_id;
    if v_change.kind = 2 and v_own then
      c.kind := null;
      return c;
    end if;
    v_takes_over := v_change.kind = 1 and length(v_change.prefix) >= c.prefix_bytes
      and v_change.name = c.name;
    if not v_takes_over and v_change.ends_shorter and length(v_change.prefix) > c.prefix_bytes then
      c := flint._forget(c);
      c.kind := null;
      return c;
    end if;
    continue when not v_takes_over and not (v_change.kind = 3 and v_own);
    v_at_ns := greatest(v_change.at_ns, c.last_ns);
    if v_change.kind = 3 or flint._fresh(c, v_at_ns) then
      c := flint._forget(c);
    end if;
    continue when not v_takes_over;
    c := flint._migrate(c, v_change.algorithm, v_change.rate, v_change.per_ns, v_change.burst,
                        v_at_ns);
    c.template_id := v_change.template_id;
    c.prefix_bytes := length(v_change.prefix);
    c.stack := v_change.stack;
  end loop;
  c.epoch := p_epoch;
  return c;
end
$$;

-- A row as it stands. What is read of its log is of the same snapshot.
create or replace function flint._claim(c flint.counters, p_item int4, p_cost int8, p_now_ns int8)
returns flint.claim language sql stable as $$
  select row(c.*, 0, p_item, p_cost, true, false, false, p_now_ns,
    case when c.algorithm = 5 then c.state1 else 0 end,
    c.state2 - coalesce(b.units, 0), c.state3 - coalesce(b.entries, 0),
    case when c.algorithm = 5 then (select l.at_ns from flint.log l
      where l.log = c.state1 and l.at_ns > p_now_ns - c.per_ns order by l.at_ns limit 1) end,
    case when c.algorithm = 5 and c.state2 - coalesce(b.units, 0) > c.rate - p_cost then
      (select l.at_ns from flint.log l where l.log = c.state1 and l.at_ns > p_now_ns - c.per_ns
       and l.units - p_cost >= c.state2 - c.rate order by l.at_ns limit 1) end,
    array[]::flint.totals[])::flint.claim
  from (select 1) one left join lateral (
    select l.units, l.entries from flint.log l where c.algorithm = 5 and l.log = c.state1
    and l.at_ns <= p_now_ns - c.per_ns order by l.at_ns desc limit 1) b on true
$$;

-- What there is for a key, in order of name.
create or replace function flint._rows(p_id bytea, p_item int4, p_cost int8, p_epoch int8,
  p_now_ns int8)
returns flint.claim[] language plpgsql stable as $$
declare
  v_rows flint.claim[];
  v_one flint.claim;
begin
  select array_agg(flint._claim(c, p_item, p_cost, p_now_ns) order by c.name) into v_rows
    from flint.counters c where c.id = p_id;
  for i in 1 .. coalesce(cardinality(v_rows), 0) loop
    if v_rows[i].kind = 2 and v_rows[i].epoch < p_epoch then
      v_one := flint._caught_up(v_rows[i], p_epoch);
      v_rows[i] := v_one;
    end if;
  end loop;
  return coalesce(v_rows, array[]::flint.claim[]);
end
$$;

-- A counter of a key that has used nothing.
create or replace function flint._begin(p_id bytea, p_name bytea, p_long_key bytea, p_epoch int8)
returns flint.claim language plpgsql immutable as $$
declare
  c flint.claim;
begin
  c.id := p_id;
  c.name := p_name;
  c.long_key := p_long_key;
  c.epoch := p_epoch;
  c.stack := false;
  c.state1 := 0;
  c.state2 := 0;
  c.state3 := 0;
  c.last_ns := 0;
  c.allowed := 0;
  c.denied := 0;
  c.allowed_cost := 0;
  c.denied_cost := 0;
  c.status := 0;
  c.found := false;
  c.changed := false;
  c.old_log := 0;
  c.log_units := 0;
  c.log_entries := 0;
  c.forgotten := array[]::flint.totals[];
  return c;
end
$$;

-- Makes of what was found under a name, or of nothing, a counter that has used nothing.
create or replace function flint._anew(p_rows flint.claim[], p_new flint.claim) returns flint.claim
language plpgsql immutable as $$
declare
  v_one flint.claim;
begin
  foreach v_one in array p_rows loop
    if v_one.name = p_new.name then
      v_one := flint._forget(v_one);
      p_new.found := true;
      p_new.last_ns := v_one.last_ns;
      p_new.old_log := v_one.old_log;
      p_new.forgotten := v_one.forgotten;
    end if;
  end loop;
  return p_new;
end
$$;

-- The limits that decide about a key together: its own in order of name, then those of templates.
-- p_inline is what a check carries along, by algorithm, rate, per_ns and burst.
create or replace function flint._applying(p_id bytea, p_long_key bytea, p_item int4, p_cost int8,
  p_templates int8[], p_inline int8[], p_epoch int8, p_now_ns int8)
returns flint.claim[] language plpgsql stable as $$
declare
  v_rows flint.claim[] := flint._rows(p_id, p_item, p_cost, p_epoch, p_now_ns);
  v_found flint.claim[] := array[]::flint.claim[];
  v_own bytea[] := array[]::bytea[];
  v_one flint.claim;
  v_template record;
  v_stacks bool := false;
  v_alone bool := false;
begin
  foreach v_one in array v_rows loop
    if v_one.kind = 3 and not v_alone and not flint._fresh(v_one, p_now_ns) then
      if p_inline <> array[v_one.algorithm, v_one.rate, v_one.per_ns, v_one.burst] then
        v_one := flint._migrate(v_one, p_inline[1]::int2, p_inline[2], p_inline[3], p_inline[4],
                                p_now_ns);
        v_one.changed := true;
      end if;
      v_found := array[v_one];
      v_alone := true;
    elsif v_one.kind = 0 and not v_alone then
      v_found := v_found || v_one;
      v_own := v_own || v_one.name;
      v_stacks := v_stacks or v_one.stack;
    end if;
  end loop;
  if not v_alone and (v_stacks or cardinality(v_own) = 0) then
    for v_template in select t.* from unnest(p_templates) with ordinality u (template_id, n)
      join flint.templates t using (template_id) order by u.n
    loop
      continue when v_template.name = any (v_own);
      select r.* into v_one from unnest(v_rows) r where r.name = v_template.name and r.kind = 2
        and r.template_id = v_template.template_id;
      if not found then
        v_one := flint._begin(p_id, v_template.name, p_long_key, p_epoch);
        v_one.kind := 2;
        v_one.template_id := v_template.template_id;
        v_one.prefix_bytes := length(v_template.prefix);
        v_one.algorithm := v_template.algorithm;
        v_one.stack := v_template.stack;
        v_one.rate := v_template.rate;
        v_one.per_ns := v_template.per_ns;
        v_one.burst := v_template.burst;
        v_one := flint._anew(v_rows, v_one);
      end if;
      if cardinality(v_found) = 16 then
        v_one.status := 3;
      end if;
      v_found := v_found || v_one;
    end loop;
  end if;
  if cardinality(v_found) = 0 then
    v_one := flint._begin(p_id, '', p_long_key, p_epoch);
    if p_inline is null then
      v_one.status := 2;
    else
      v_one.kind := 3;
      v_one.algorithm := p_inline[1];
      v_one.rate := p_inline[2];
      v_one.per_ns := p_inline[3];
      v_one.burst := p_inline[4];
      v_one := flint._anew(v_rows, v_one);
    end if;
    v_found := array[v_one];
  end if;
  for i in 1 .. cardinality(v_found) loop
    v_one := v_found[i];
    v_one.item := p_item;
    v_one.cost := p_cost;
    if v_one.status = 0 then
      v_one := flint._look(v_one, p_now_ns);
    end if;
    v_found[i] := v_one;
  end loop;
  return v_found;
end
$$;

-- Writes a counter that is found there, or that is not; false if somebody else was faster.
create or replace function flint._store(c flint.claim) returns bool language plpgsql as $$
begin
  if c.old_log > 0 and (c.algorithm <> 5 or c.state1 <> c.old_log) then
    delete from flint.log l where l.log = c.old_log;
  end if;
  if c.found then
    update flint.counters x set (kind, template_id, prefix_bytes, epoch, algorithm, stack, rate,
      per_ns, burst, state1, state2, state3, last_ns, allowed, denied, allowed_cost, denied_cost,
      last_allowed_ns, last_denied_ns, last_reset_ns) = (c.kind, c.template_id, c.prefix_bytes,
      c.epoch, c.algorithm, c.stack, c.rate, c.per_ns, c.burst, c.state1, c.state2, c.state3,
      c.last_ns, c.allowed, c.denied, c.allowed_cost, c.denied_cost, c.last_allowed_ns,
      c.last_denied_ns, c.last_reset_ns) where x.id = c.id and x.name = c.name;
  else
    insert into flint.counters values (c.id, c.name, c.long_key, c.kind, c.template_id,
      c.prefix_bytes, c.epoch, c.algorithm, c.stack, c.rate, c.per_ns, c.burst, c.state1, c.state2,
      c.state3, c.last_ns, c.allowed, c.denied, c.allowed_cost, c.denied_cost, c.last_allowed_ns,
      c.last_denied_ns, c.last_reset_ns) on conflict do nothing;
  end if;
  return found;
end
$$;

create or replace function flint._erase(c flint.claim) returns void language plpgsql as $$
begin
  delete from flint.counters x where x.id = c.id and x.name = c.name;
  if c.old_log > 0 then
    delete from flint.log l where l.log = c.old_log;
  end if;
end
$$;

create or replace function flint._absorb(p_totals flint.totals[])
returns void language plpgsql as $$
begin
  insert into flint.sums as s
    select t.template_id, pg_backend_pid() % 64, sum(t.allowed), sum(t.denied),
      least(sum(t.allowed_cost), 9223372036854775807),
      least(sum(t.denied_cost), 9223372036854775807),
      max(t.last_allowed_ns), max(t.last_denied_ns), max(t.last_reset_ns)
    from unnest(p_totals) t
    where exists (select from flint.templates x where x.template_id = t.template_id)
    group by t.template_id order by t.template_id
  on conflict (template_id, slot) do update set
    allowed = s.allowed + excluded.allowed,
    denied = s.denied + excluded.denied,
    allowed_cost = flint._add(s.allowed_cost, excluded.allowed_cost),
    denied_cost = flint._add(s.denied_cost, excluded.denied_cost),
    last_allowed_ns = greatest(s.last_allowed_ns, excluded.last_allowed_ns),
    last_denied_ns = greatest(s.last_denied_ns, excluded.last_denied_ns),
    last_reset_ns = greatest(s.last_reset_ns, excluded.last_reset_ns);
end
$$;

-- Erases a few counters that have used nothing, of one page of the table, and tells what they had
-- counted. Rows that others have locked are passed over.
create or replace function flint._sweep(p_epoch int8, p_now_ns int8) returns flint.totals[]
language plpgsql as $$
declare
  v_pages int8 := pg_relation_size('flint.counters') / current_setting('block_size')::int8;
  v_page int8 := floor(random() * v_pages);
  v_totals flint.totals[] := array[]::flint.totals[];
  v_row flint.counters;
  v_one flint.claim;
begin
  for v_row in select c.* from flint.counters c
    where c.ctid >= format('(%s,0)', v_page)::tid and c.ctid < format('(%s,0)', v_page + 1)::tid
      and c.kind <> 0 and c.last_ns < p_now_ns - 1000000000
      and (c.epoch < p_epoch or case when c.algorithm <= 3 then c.state1 < p_now_ns
        when c.algorithm = 4 then p_now_ns - c.state1 >= c.per_ns
        when c.algorithm = 5 then c.last_ns <= p_now_ns - c.per_ns
        else p_now_ns / c.per_ns > c.state1 + 1 end)
    limit 4 for update skip locked
  loop
    v_one := flint._claim(v_row, 0, 1, p_now_ns);
    if v_one.kind = 2 and v_one.epoch < p_epoch then
      v_one := flint._caught_up(v_one, p_epoch);
    end if;
    if v_one.kind is null or flint._fresh(v_one, p_now_ns) then
      perform flint._erase(v_one);
      v_one := flint._forget(v_one);
      v_totals := v_totals || v_one.forgotten;
    end if;
  end loop;
  return v_totals;
end
$$;

-- Keeps the changes that counters of this epoch have to go through until the transaction ends. What
-- is written for an epoch has to be read behind it.
create or replace function flint._hold_epoch() returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared('flint.epoch'::regclass::oid::int8);
end
$$;

-- How durable the transaction is, and how long it waits for a lock; for itself alone.
create or replace function flint._sync(p_always bool, p_wait_ms int4) returns void
language plpgsql as $$
begin
  perform set_config('lock_timeout', p_wait_ms::text, true);
  if not p_always then
    perform set_config('synchronous_commit', 'off', true);
  elsif current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
end
$$;

-- ---- Deciding, in the case of most checks ------------------------------------------------------

-- The state of a counter behind an admission, and whether it had used nothing before (1 or 0); NULL
-- if the cost is denied. The same as _look and _admit, for all but logs, with less to carry about.
create or replace function flint._after(p_algorithm int2, p_rate int8, p_per_ns int8,
  p_burst int8, p_cost int8, p_now_ns int8, p_state1 int8, p_state2 int8, p_state3 int8)
returns int8[] language plpgsql immutable as $$
declare
  v_cost_ns int8;
  v_cost_part int8;
  v_most_ns int8;
  v_most_part int8;
  v_window int8;
begin
  if p_algorithm <= 3 then
    if p_per_ns <= 9223372036854775807 / p_burst then
      v_cost_ns := p_cost * p_per_ns / p_rate;
      v_cost_part := p_cost * p_per_ns % p_rate;
    else
      select s.ns, s.fraction into v_cost_ns, v_cost_part
        from flint._span(p_cost, p_per_ns, p_rate) s;
    end if;
    if p_state1 < p_now_ns then
      return array[p_now_ns + v_cost_ns, v_cost_part, p_state3, 1];
    end if;
    if p_per_ns <= 9223372036854775807 / p_burst then
      v_most_ns := p_burst * p_per_ns / p_rate - v_cost_ns;
      v_most_part := p_burst * p_per_ns % p_rate - v_cost_part;
    else
      select s.ns - v_cost_ns, s.fraction - v_cost_part into v_most_ns, v_most_part
        from flint._span(p_burst, p_per_ns, p_rate) s;
    end if;
    if v_most_part < 0 then
      v_most_ns := v_most_ns - 1;
      v_most_part := v_most_part + p_rate;
    end if;
    if p_state1 - p_now_ns > v_most_ns
      or (p_state1 - p_now_ns = v_most_ns and p_state2 > v_most_part)
    then
      return null;
    elsif p_state2 >= p_rate - v_cost_part then
      return array[p_state1 + v_cost_ns + 1, p_state2 - (p_rate - v_cost_part), p_state3, 0];
    end if;
    return array[p_state1 + v_cost_ns, p_state2 + v_cost_part, p_state3,
                 (p_state1 = p_now_ns and p_state2 = 0)::int4];
  elsif p_algorithm = 4 then
    if p_state2 = 0 or p_now_ns - p_state1 >= p_per_ns then
      return array[p_now_ns, p_cost, p_state3, 1];
    elsif p_state2 > p_rate - p_cost then
      return null;
    end if;
    return array[p_state1, p_state2 + p_cost, p_state3, 0];
  end if;
  v_window := p_now_ns / p_per_ns;
  if v_window > p_state1 then
    p_state2 := case when v_window = p_state1 + 1 then p_state3 else 0 end;
    p_state3 := 0;
  end if;
  if p_state3 > p_rate - p_cost or (p_state2 > 0
    and p_state2::numeric * (p_per_ns - p_now_ns % p_per_ns)
      > (p_rate - p_state3 - p_cost)::numeric * p_per_ns)
  then
    return null;
  end if;
  return array[greatest(v_window, p_state1), p_state2, p_state3 + p_cost,
               (p_state2 = 0 and p_state3 = 0)::int4];
end
$$;

-- What a counter without a name has counted before it was fresh goes to its template.
create or replace function flint._absorb_one(p_template int8, p_allowed int8, p_denied int8,
  p_allowed_cost int8, p_denied_cost int8, p_last_allowed_ns int8, p_last_denied_ns int8,
  p_last_reset_ns int8)
returns void language plpgsql as $$
begin
  update flint.sums s set allowed = s.allowed + p_allowed, denied = s.denied + p_denied,
    allowed_cost = flint._add(s.allowed_cost, p_allowed_cost),
    denied_cost = flint._add(s.denied_cost, p_denied_cost),
    last_allowed_ns = greatest(s.last_allowed_ns, p_last_allowed_ns),
    last_denied_ns = greatest(s.last_denied_ns, p_last_denied_ns),
    last_reset_ns = greatest(s.last_reset_ns, p_last_reset_ns)
    where s.template_id = p_template and s.slot = pg_backend_pid() % 64;
  if not found then
    perform flint._absorb(array[row(p_template, p_allowed, p_denied, p_allowed_cost, p_denied_cost,
      p_last_allowed_ns, p_last_denied_ns, p_last_reset_ns)::flint.totals]);
  end if;
end
$$;

-- Admits a key that has no row yet, under a template without a name; NULL for every other.
create or replace function flint._insert_one(p_epoch int8, p_always bool, p_wait_ms int4,
  p_id bytea, p_long_key bytea, p_cost int8, p_template int8)
returns text language plpgsql as $$
declare
  t record;
  v_now_ns int8;
  v_after int8[];
  v_totals flint.totals[];
begin
  perform flint._hold_epoch();
  select x.*, length(x.prefix) as prefix_bytes into t from flint.templates x
    where x.template_id = p_template and x.name = '' and x.algorithm <> 5 and x.burst >= p_cost
    and not exists (select from flint.counters c where c.id = p_id)
    and exists (select from flint.epoch e where e.epoch = p_epoch);
  if not found then
    return null;
  end if;
  perform flint._sync(p_always, p_wait_ms);
  v_now_ns := flint.now_ns();
  v_after := flint._after(t.algorithm, t.rate, t.per_ns, t.burst, p_cost, v_now_ns, 0, 0, 0);
  insert into flint.counters values (p_id, '', p_long_key, 2, p_template, t.prefix_bytes, p_epoch,
    t.algorithm, t.stack, t.rate, t.per_ns, t.burst, v_after[1], v_after[2], v_after[3], v_now_ns,
    1, 0, p_cost, 0, v_now_ns, null, null) on conflict do nothing;
  if not found then
    return null;
  end if;
  v_totals := flint._sweep(p_epoch, v_now_ns);
  if cardinality(v_totals) > 0 then
    perform flint._absorb(v_totals);
  end if;
  return concat_ws(' ', '0 0 2', p_template, t.stack::int4, '1', t.algorithm, t.rate, t.per_ns,
    t.burst, v_after[1], v_after[2], v_after[3], v_now_ns, v_now_ns, '0 0 0 0 x');
end
$$;

-- Decides about a key that has one row, without a name, which needs nothing but itself; NULL for
-- every other. Read without a lock first: what is denied then locks and writes nothing.
create or replace function flint._check_one(p_epoch int8, p_count bool, p_always bool,
  p_wait_ms int4, p_id bytea, p_long_key bytea, p_cost int8, p_template int8, p_denials int8,
  p_denied_cost int8, p_denied_ns int8)
returns text language plpgsql as $$
declare
  c record;
  v_now_ns int8;
  v_after int8[];
  v_is_new bool;
begin
  for v_locked in 0 .. 1 loop
    if v_locked = 0 then
      select x.*, x.ctid as place into c from flint.counters x
        where x.id = p_id and x.name = ''
        and not exists (select from flint.counters y where y.id = p_id and y.name > '')
        and exists (select from flint.epoch e where e.epoch = p_epoch);
    else
      perform flint._sync(p_always, p_wait_ms);
      select x.*, x.ctid as place into c from flint.counters x
        where x.id = p_id and x.name = '' for update;
    end if;
    if not found and v_locked = 0 and p_count and p_template is not null and p_denials = 0 then
      return flint._insert_one(p_epoch, p_always, p_wait_ms, p_id, p_long_key, p_cost, p_template);
    end if;
    if not found or c.kind = 3 or c.algorithm = 5 or p_cost > c.burst or (c.kind = 0 and c.stack)
      or (c.kind = 2 and (c.epoch <> p_epoch or c.template_id is distinct from p_template))
    then
      return null;
    end if;
    v_now_ns := greatest(flint.now_ns(), c.last_ns);
    v_after := flint._after(c.algorithm, c.rate, c.per_ns, c.burst, p_cost, v_now_ns, c.state1,
                            c.state2, c.state3);
    if v_after is null or not p_count then
      return concat_ws(' ', '0 0', c.kind, coalesce(c.template_id, 0), c.stack::int4,
        (v_after is not null)::int4, c.algorithm, c.rate, c.per_ns, c.burst, c.state1, c.state2,
        c.state3, v_now_ns, c.last_ns, '0 0 0 0 x');
    end if;
  end loop;
  v_is_new := c.kind = 2 and v_after[4] = 1;
  update flint.counters x set state1 = v_after[1], state2 = v_after[2], state3 = v_after[3],
    last_ns = v_now_ns,
    allowed = case when v_is_new then 0 else x.allowed end + 1,
    denied = case when v_is_new then 0 else x.denied + p_denials end,
    allowed_cost = case when v_is_new then p_cost else flint._add(x.allowed_cost, p_cost) end,
    denied_cost = case when v_is_new then 0 else flint._add(x.denied_cost, p_denied_cost) end,
    last_allowed_ns = v_now_ns,
    last_denied_ns = case when v_is_new then null else greatest(x.last_denied_ns, p_denied_ns) end,
    last_reset_ns = case when v_is_new then null else x.last_reset_ns end
    where x.ctid = c.place;
  if v_is_new and (c.allowed > 0 or c.denied + p_denials > 0 or c.last_reset_ns is not null) then
    perform flint._absorb_one(c.template_id, c.allowed, c.denied + p_denials, c.allowed_cost,
      flint._add(c.denied_cost, p_denied_cost), c.last_allowed_ns,
      greatest(c.last_denied_ns, p_denied_ns), c.last_reset_ns);
  end if;
  return concat_ws(' ', '0 0', c.kind, coalesce(c.template_id, 0), c.stack::int4, '1',
    c.algorithm, c.rate, c.per_ns, c.burst, v_after[1], v_after[2], v_after[3], v_now_ns, v_now_ns,
    '0 0 0 0 x');
end
$$;

-- ---- Deciding ----------------------------------------------------------------------------------

create or replace function flint._find(p_ids bytea[], p_long_keys bytea[], p_costs int8[],
  p_templates int8[], p_template_counts int4[], p_inline int8[], p_epoch int8)
returns flint.claim[] language plpgsql as $$
declare
  v_now_ns int8 := flint.now_ns();
  v_last_ns int8;
  v_claims flint.claim[];
  v_one flint.claim;
  v_first int4;
begin
  loop
    v_claims := array[]::flint.claim[];
    v_last_ns := v_now_ns;
    v_first := 1;
    for i in 1 .. cardinality(p_ids) loop
      v_claims := v_claims || flint._applying(p_ids[i], p_long_keys[i], i - 1, p_costs[i],
        p_templates[v_first : v_first + p_template_counts[i] - 1], p_inline, p_epoch, v_now_ns);
      v_first := v_first + p_template_counts[i];
    end loop;
    foreach v_one in array v_claims loop
      v_last_ns := greatest(v_last_ns, v_one.last_ns);
    end loop;
    -- Time never goes back for a key.
    exit when v_last_ns = v_now_ns;
    v_now_ns := v_last_ns;
  end loop;
  return v_claims;
end
$$;

-- Locks the rows of claims in their order, and makes those that are not there.
create or replace function flint._lock(p_claims flint.claim[]) returns void language plpgsql as $$
declare
  v_one flint.claim;
begin
  for v_one in select * from unnest(p_claims) c order by c.id, c.name loop
    if not v_one.found then
      v_one.last_ns := 0;
      perform flint._store(v_one);
    end if;
    perform from flint.counters c where c.id = v_one.id and c.name = v_one.name for update;
  end loop;
end
$$;

-- Counts the admission of locked claims. The denials that the caller has seen meanwhile are of the
-- one key that it asks about.
create or replace function flint._count(p_claims flint.claim[], p_names bytea[], p_counts int8[],
  p_costs int8[], p_last_ns int8[])
returns flint.claim[] language plpgsql as $$
declare
  v_one flint.claim;
  v_at int4;
begin
  for i in 1 .. cardinality(p_claims) loop
    v_one := p_claims[i];
    v_at := array_position(p_names, v_one.name);
    if v_at is not null then
      v_one.denied := v_one.denied + p_counts[v_at];
      v_one.denied_cost := flint._add(v_one.denied_cost, p_costs[v_at]);
      v_one.last_denied_ns := greatest(v_one.last_denied_ns, p_last_ns[v_at]);
    end if;
    if v_one.kind <> 0 and flint._fresh(v_one, v_one.now_ns) then
      v_one := flint._forget(v_one);
    end if;
    v_one := flint._admit(v_one);
    p_claims[i] := v_one;
  end loop;
  return p_claims;
end
$$;

-- Decides about one key or several, all or nothing. p_count: whether to count an admission.
create or replace function flint._check_many(p_epoch int8, p_count bool, p_always bool,
  p_wait_ms int4, p_ids bytea[], p_long_keys bytea[], p_costs int8[], p_templates int8[],
  p_template_counts int4[], p_inline int8[], p_names bytea[], p_denials int8[],
  p_denied_costs int8[], p_denied_ns int8[])
returns setof flint.claim language plpgsql as $$
declare
  v_claims flint.claim[];
  v_one flint.claim;
  v_names bytea[];
  v_locked bytea[];
  v_ready bool;
  v_changes bool;
  v_totals flint.totals[];
  v_is_new bool := false;
begin
  if not exists (select from flint.epoch e where e.epoch = p_epoch) then
    v_one.status := 1;
    return next v_one;
    return;
  end if;
  loop
    v_claims := flint._find(p_ids, p_long_keys, p_costs, p_templates, p_template_counts, p_inline,
                            p_epoch);
    v_ready := p_count;
    v_changes := false;
    v_names := array[]::bytea[];
    foreach v_one in array v_claims loop
      v_ready := v_ready and v_one.status = 0 and v_one.allows;
      v_changes := v_changes or (p_count and v_one.status = 0 and v_one.changed);
      v_names := v_names || v_one.id || v_one.name;
      v_is_new := v_is_new or not v_one.found;
    end loop;
    if not v_ready and not v_changes then
      return query select * from unnest(v_claims);
      return;
    end if;
    exit when v_names = v_locked and not exists (select from unnest(v_claims) c where not c.found);
    perform flint._sync(p_always, p_wait_ms);
    perform flint._hold_epoch();
    if not exists (select from flint.epoch e where e.epoch = p_epoch) then
      v_one := null;
      v_one.status := 1;
      return next v_one;
      return;
    end if;
    if cardinality(v_claims) = 1 and not v_claims[1].found and v_claims[1].algorithm <> 5
      and cardinality(p_names) = 0
    then
      v_one := flint._admit(v_claims[1]);
      if flint._store(v_one) then
        perform flint._absorb(flint._sweep(p_epoch, v_one.now_ns));
        return next v_one;
        return;
      end if;
    end if;
    perform flint._lock(v_claims);
    v_locked := v_names;
  end loop;
  if not v_ready then
    perform flint._store(v_one);  -- the one limit, which came with the check, has other values now
    return query select * from unnest(v_claims);
    return;
  end if;
  v_claims := flint._count(v_claims, p_names, p_denials, p_denied_costs, p_denied_ns);
  v_totals := array[]::flint.totals[];
  foreach v_one in array v_claims loop
    perform flint._store(v_one);
    v_totals := v_totals || v_one.forgotten;
  end loop;
  if v_is_new then
    v_totals := v_totals || flint._sweep(p_epoch, v_one.now_ns);
  end if;
  if cardinality(v_totals) > 0 then
    perform flint._absorb(v_totals);
  end if;
  return query select * from unnest(v_claims);
end
$$;

-- The same in a text, which is made and sent faster: a line for each counter, of numbers with
-- blanks between them.
create or replace function flint.v1_check(p_epoch int8, p_count bool, p_always bool, p_wait_ms int4,
  p_ids bytea[], p_long_keys bytea[], p_costs int8[], p_templates int8[],
  p_template_counts int4[], p_inline int8[], p_names bytea[], p_denials int8[],
  p_denied_costs int8[], p_denied_ns int8[])
returns text language plpgsql as $$
declare
  v_told text;
begin
  if cardinality(p_ids) = 1 and p_inline is null and cardinality(p_templates) <= 1 then
    v_told := flint._check_one(p_epoch, p_count, p_always, p_wait_ms, p_ids[1], p_long_keys[1],
      p_costs[1], p_templates[1], coalesce(p_denials[1], 0), coalesce(p_denied_costs[1], 0),
      p_denied_ns[1]);
    if v_told is not null then
      return v_told;
    end if;
  end if;
  return (select string_agg(concat_ws(' ', c.status, coalesce(c.item, 0), coalesce(c.kind, -1),
      coalesce(c.template_id, 0), coalesce(c.stack, false)::int4, coalesce(c.allows, false)::int4,
      coalesce(c.algorithm, 0), coalesce(c.rate, 0), coalesce(c.per_ns, 0), coalesce(c.burst, 0),
      coalesce(c.state1, 0), coalesce(c.state2, 0), coalesce(c.state3, 0), coalesce(c.now_ns, 0),
      coalesce(c.last_ns, 0), coalesce(c.log_units, 0), coalesce(c.log_entries, 0),
      coalesce(c.oldest_ns, 0), coalesce(c.leaves_ns, 0),
      'x' || coalesce(encode(c.name, 'hex'), '')), E'\n')
    from flint._check_many(p_epoch, p_count, p_always, p_wait_ms, p_ids, p_long_keys, p_costs,
      p_templates, p_template_counts, p_inline, p_names, p_denials, p_denied_costs,
      p_denied_ns) c);
end
$$;

-- Counts denials that callers have seen. They are never waited for on disk.
create or replace function flint.v1_denied(p_wait_ms int4,
  p_ids bytea[], p_names bytea[], p_templates int8[],
  p_denials int8[], p_costs int8[], p_last_ns int8[])
returns void language plpgsql as $$
declare
  v_one record;
  v_totals flint.totals[] := array[]::flint.totals[];
begin
  perform flint._sync(false, p_wait_ms);
  for v_one in select * from unnest(p_ids, p_names, p_templates, p_denials, p_costs, p_last_ns)
    u (id, name, template_id, denials, cost, last_ns) order by u.id, u.name
  loop
    update flint.counters c set denied = c.denied + v_one.denials,
      denied_cost = flint._add(c.denied_cost, v_one.cost),
      last_denied_ns = greatest(c.last_denied_ns, v_one.last_ns)
      where c.id = v_one.id and c.name = v_one.name;
    if not found then
      v_totals := v_totals || row(v_one.template_id, 0, v_one.denials, 0, v_one.cost, null,
        v_one.last_ns, null)::flint.totals;
    end if;
  end loop;
  perform flint._absorb(v_totals);
end
$$;

-- ---- Configuring -------------------------------------------------------------------------------

-- Ends what a key's own limits leave nothing to decide.
create or replace function flint._end_uncovered(p_id bytea, p_epoch int8, p_now_ns int8)
returns flint.totals[] language plpgsql as $$
declare
  v_rows flint.claim[] := flint._rows(p_id, 0, 1, p_epoch, p_now_ns);
  v_totals flint.totals[] := array[]::flint.totals[];
  v_one flint.claim;
begin
  if not exists (select from unnest(v_rows) r where r.kind = 0) then
    return v_totals;
  end if;
  foreach v_one in array v_rows loop
    continue when v_one.kind = 0;
    continue when v_one.kind = 2
      and exists (select from unnest(v_rows) r where r.kind = 0 and r.stack);
    perform flint._erase(v_one);
    v_one := flint._forget(v_one);
    v_totals := v_totals || v_one.forgotten;
  end loop;
  return v_totals;
end
$$;

-- Gives a key a limit of its own. Whether something has changed; NULL: there are 16 already.
create or replace function flint.v1_limit(p_always bool, p_wait_ms int4,
  p_id bytea, p_long_key bytea, p_name bytea,
  p_algorithm int2, p_rate int8, p_per_ns int8, p_burst int8, p_stack bool, p_if_absent bool)
returns bool language plpgsql as $$
declare
  v_epoch int8;
  v_now_ns int8;
  v_one flint.claim;
  v_totals flint.totals[];
  v_is_new bool;
begin
  if exists (select from flint.counters c where c.id = p_id and c.name = p_name and c.kind = 0
    and (p_if_absent or (c.algorithm, c.rate, c.per_ns, c.burst, c.stack)
      = (p_algorithm, p_rate, p_per_ns, p_burst, p_stack)))
  then
    return false;
  end if;
  if (select count(*) from flint.counters c where c.id = p_id and c.kind = 0 and c.name <> p_name)
    >= 16
  then
    return null;
  end if;
  select e.epoch into v_epoch from flint.epoch e;
  perform flint._sync(p_always, p_wait_ms);
  v_one := flint._begin(p_id, p_name, p_long_key, v_epoch);
  v_one.kind := 0;
  v_one.algorithm := p_algorithm;
  v_one.rate := p_rate;
  v_one.per_ns := p_per_ns;
  v_one.burst := p_burst;
  v_one.stack := p_stack;
  perform from flint.counters c where c.id = p_id and c.name < p_name order by c.name for update;
  v_is_new := flint._store(v_one);
  perform from flint.counters c where c.id = p_id and c.name >= p_name order by c.name for update;
  select greatest(flint.now_ns(), max(c.last_ns)) into v_now_ns
    from flint.counters c where c.id = p_id;
  select r.* into v_one from unnest(flint._rows(p_id, 0, 1, v_epoch, v_now_ns)) r
    where r.name = p_name;
  if v_one.kind = 0 and p_if_absent and not v_is_new then
    return false;
  end if;
  if v_one.kind is distinct from 0 and (v_one.kind is null or flint._fresh(v_one, v_now_ns)) then
    v_one := flint._forget(v_one);
  end if;
  v_one := flint._migrate(v_one, p_algorithm, p_rate, p_per_ns, p_burst, v_now_ns);
  v_one.kind := 0;
  v_one.template_id := null;
  v_one.prefix_bytes := null;
  v_one.stack := p_stack;
  perform flint._store(v_one);
  v_totals := v_one.forgotten || flint._end_uncovered(p_id, v_epoch, v_now_ns);
  perform flint._absorb(v_totals);
  return true;
end
$$;

create or replace function flint._ends_shorter(p_id bytea) returns bool language sql stable as $$
  select count(*) > 0 and not coalesce(bool_or(t.stack), false)
  from flint.templates t where t.id = p_id
$$;

-- Ends the changes before the last 1000. A few counters that have not gone through them are taken
-- through now; where there are more, their changes stay for the next time.
create or replace function flint._prune(p_epoch int8) returns void language plpgsql as $$
declare
  v_until int8 := p_epoch - 1000;
  v_now_ns int8 := flint.now_ns();
  v_row flint.counters;
  v_one flint.claim;
  v_totals flint.totals[] := array[]::flint.totals[];
begin
  if not exists (select from flint.changes x where x.epoch <= v_until) then
    return;
  end if;
  -- Whoever makes a counter of an old epoch now has made it when this has the lock.
  perform pg_advisory_xact_lock('flint.epoch'::regclass::oid::int8);
  for v_row in select c.* from flint.counters c where c.kind = 2 and c.epoch < v_until
    limit 1024 for update skip locked
  loop
    v_one := flint._caught_up(flint._claim(v_row, 0, 1, v_now_ns), p_epoch);
    if v_one.kind is null or flint._fresh(v_one, greatest(v_now_ns, v_one.last_ns)) then
      perform flint._erase(v_one);
      v_one := flint._forget(v_one);
    else
      perform flint._store(v_one);
    end if;
    v_totals := v_totals || v_one.forgotten;
  end loop;
  perform flint._absorb(v_totals);
  delete from flint.changes x where x.epoch <= least(v_until,
    (select min(c.epoch) from flint.counters c where c.kind = 2));
end
$$;

-- Notes a change of a template, and when it was.
create or replace function flint._note(p_kind int2, t flint.templates)
returns void language plpgsql as $$
declare
  v_epoch record;
begin
  update flint.epoch e set epoch = e.epoch + 1, at_ns = greatest(e.at_ns, flint.now_ns())
    returning e.epoch, e.at_ns into v_epoch;
  insert into flint.changes values (v_epoch.epoch, p_kind, v_epoch.at_ns, t.template_id, t.prefix,
    t.name, flint._ends_shorter(t.id), t.algorithm, t.stack, t.rate, t.per_ns, t.burst);
  if v_epoch.epoch % 64 = 0 then
    perform flint._prune(v_epoch.epoch);
  end if;
end
$$;

-- The same as v1_limit for a template.
create or replace function flint.v1_template(p_always bool, p_wait_ms int4,
  p_id bytea, p_prefix bytea,
  p_name bytea,
  p_algorithm int2, p_rate int8, p_per_ns int8, p_burst int8, p_stack bool, p_if_absent bool)
returns bool language plpgsql as $$
declare
  t flint.templates;
begin
  for v_is_locked in 0 .. 1 loop
    if exists (select from flint.templates x where x.id = p_id and x.name = p_name
      and (p_if_absent or (x.algorithm, x.rate, x.per_ns, x.burst, x.stack)
        = (p_algorithm, p_rate, p_per_ns, p_burst, p_stack)))
    then
      return false;
    end if;
    if v_is_locked = 0 then
      perform flint._sync(p_always, p_wait_ms);
      perform from flint.epoch for update;
    end if;
  end loop;
  if (select count(*) from flint.templates x where x.id = p_id and x.name <> p_name) >= 16 then
    return null;
  end if;
  insert into flint.templates as x
    (id, prefix, name, algorithm, stack, rate, per_ns, burst)
    values (p_id, p_prefix, p_name, p_algorithm, p_stack, p_rate, p_per_ns, p_burst)
    on conflict (id, name) do update set algorithm = excluded.algorithm, stack = excluded.stack,
      rate = excluded.rate, per_ns = excluded.per_ns, burst = excluded.burst
    returning x.* into t;
  perform flint._note(1::int2, t);
  return true;
end
$$;

-- Removes or resets the limits of a key, of one name or of all. How many there were.
create or replace function flint.v1_end(p_always bool, p_wait_ms int4,
  p_reset bool, p_id bytea, p_name bytea)
returns int4 language plpgsql as $$
declare
  v_epoch int8;
  v_now_ns int8;
  v_one flint.claim;
  v_ended int4 := 0;
  v_totals flint.totals[] := array[]::flint.totals[];
begin
  perform flint._sync(p_always, p_wait_ms);
  select e.epoch into v_epoch from flint.epoch e;
  perform from flint.counters c where c.id = p_id order by c.name for update;
  select greatest(flint.now_ns(), max(c.last_ns)) into v_now_ns
    from flint.counters c where c.id = p_id;
  for v_one in select * from unnest(flint._rows(p_id, 0, 1, v_epoch, v_now_ns)) loop
    continue when v_one.kind is null or v_one.name <> p_name;
    continue when v_one.kind <> 0 and flint._fresh(v_one, v_now_ns);
    v_ended := v_ended + 1;
    if p_reset and v_one.kind = 0 then
      v_one.state1 := 0;
      v_one.state2 := 0;
      v_one.state3 := 0;
      v_one.last_ns := v_now_ns;
      v_one.last_reset_ns := v_now_ns;
      perform flint._store(v_one);
    else
      v_one.last_reset_ns := case when p_reset then v_now_ns else v_one.last_reset_ns end;
      perform flint._erase(v_one);
      v_one := flint._forget(v_one);
      v_totals := v_totals || v_one.forgotten;
    end if;
  end loop;
  if not p_reset then
    v_totals := v_totals || flint._end_uncovered(p_id, v_epoch, v_now_ns);
  end if;
  perform flint._absorb(v_totals);
  return v_ended;
end
$$;

-- The same for templates.
create or replace function flint.v1_end_template(p_always bool, p_wait_ms int4,
  p_reset bool, p_id bytea,
  p_name bytea)
returns int4 language plpgsql as $$
declare
  t flint.templates;
  v_ended int4 := 0;
begin
  perform flint._sync(p_always, p_wait_ms);
  perform from flint.epoch for update;
  for t in select * from flint.templates x where x.id = p_id and x.name = coalesce(p_name, x.name)
    order by x.name
  loop
    v_ended := v_ended + 1;
    if p_reset then
      perform flint._note(3::int2, t);
      perform flint._absorb(array[row(t.template_id, 0, 0, 0, 0, null, null,
        (select e.at_ns from flint.epoch e))::flint.totals]);
    else
      delete from flint.templates x where x.template_id = t.template_id;
      delete from flint.sums s where s.template_id = t.template_id;
      perform flint._note(2::int2, t);
    end if;
  end loop;
  return v_ended;
end
$$;

-- ---- Looking -----------------------------------------------------------------------------------

-- All templates, behind the epoch that they are of.
create or replace function flint.v1_templates()
returns table (epoch int8, template_id int8, prefix bytea, name bytea, algorithm int2, stack bool,
  rate int8, per_ns int8, burst int8) language sql stable as $$
  select e.epoch, t.template_id, t.prefix, t.name, t.algorithm, t.stack, t.rate, t.per_ns, t.burst
  from flint.epoch e left join flint.templates t on true order by t.prefix, t.name
$$;

-- The counters of some keys.
create or replace function flint.v1_counters(p_ids bytea[]) returns setof flint.claim
language plpgsql volatile as $$
declare
  v_epoch int8;
  v_id bytea;
begin
  select e.epoch into v_epoch from flint.epoch e;
  foreach v_id in array p_ids loop
    return query select r.* from unnest(flint._rows(v_id, 0, 1, v_epoch, flint.now_ns())) r
      where r.kind is not null;
  end loop;
end
$$;

-- The counters behind one of them, in order; p_all: also those under templates.
create or replace function flint.v1_page(p_all bool, p_id bytea, p_name bytea, p_most int4)
returns setof flint.claim language plpgsql volatile as $$
declare
  v_epoch int8;
  v_now_ns int8 := flint.now_ns();
  v_one flint.claim;
begin
  select e.epoch into v_epoch from flint.epoch e;
  for v_one in select (flint._claim(c, 0, 1, v_now_ns)).* from flint.counters c
    where (c.id, c.name) > (p_id, p_name) and (p_all or c.kind <> 2)
    order by c.id, c.name limit p_most
  loop
    if v_one.kind = 2 and v_one.epoch < v_epoch then
      v_one := flint._caught_up(v_one, v_epoch);
    end if;
    return next v_one;
  end loop;
end
$$;

-- The counters with the largest totals: 1 denied, 2 allowed, 3 and 4 their costs.
create or replace function flint.v1_top(p_by int4, p_most int4) returns setof flint.claim
language plpgsql volatile as $$
declare
  v_epoch int8;
  v_now_ns int8 := flint.now_ns();
begin
  select e.epoch into v_epoch from flint.epoch e;
  return query select x.* from (
      select (case when c.kind = 2 and c.epoch < v_epoch
        then flint._caught_up(flint._claim(c, 0, 1, v_now_ns), v_epoch)
        else flint._claim(c, 0, 1, v_now_ns) end).* from flint.counters c
      where case p_by when 1 then c.denied when 2 then c.allowed when 3 then c.denied_cost
        else c.allowed_cost end > 0 offset 0) x
    where x.kind = 0 or (x.kind > 0 and not flint._fresh(x, v_now_ns))
    order by case p_by when 1 then x.denied when 2 then x.allowed when 3 then x.denied_cost
      else x.allowed_cost end desc, coalesce(x.long_key, x.id), x.kind, x.name limit p_most;
end
$$;

-- What templates and their counters have counted together.
create or replace function flint.v1_sums() returns setof flint.totals language sql volatile as $$
  with caught_up as (
    select (flint._caught_up(flint._claim(c, 0, 1, 0), e.epoch)).* from flint.counters c,
      flint.epoch e where c.kind = 2 and c.epoch < e.epoch
  )
  select t.template_id, sum(t.allowed)::int8, sum(t.denied)::int8,
    least(sum(t.allowed_cost), 9223372036854775807)::int8,
    least(sum(t.denied_cost), 9223372036854775807)::int8,
    max(t.last_allowed_ns), max(t.last_denied_ns), max(t.last_reset_ns)
  from (select c.template_id, c.allowed, c.denied, c.allowed_cost, c.denied_cost,
      c.last_allowed_ns, c.last_denied_ns, c.last_reset_ns from flint.counters c, flint.epoch e
      where c.kind = 2 and c.epoch = e.epoch
    union all select c.template_id, c.allowed, c.denied, c.allowed_cost, c.denied_cost,
      c.last_allowed_ns, c.last_denied_ns, c.last_reset_ns from caught_up c where c.kind = 2
    union all select f.* from caught_up c, unnest(c.forgotten) f
    union all select s.template_id, s.allowed, s.denied, s.allowed_cost, s.denied_cost,
      s.last_allowed_ns, s.last_denied_ns, s.last_reset_ns from flint.sums s) t
  group by t.template_id
$$;

create or replace function flint.v1_now() returns int8 language sql volatile as $$
  select flint.now_ns()
$$;
