package doctor

import (
	"fmt"
	"slices"
)

const (
	// leastPostgres is the oldest major version that the tests run.
	leastPostgres = 15
	// full is how many days the space should last at least.
	full = 90
	// month is that of "growth per month".
	month = 30
)

func store(o *Observed) (list []Finding) {
	s := &subject{Observed: o}
	if o.Store == nil {
		return skipArea("store", "no store was given", "WEIR_DATABASE_URL_FILE, as the collector has it, or WEIR_SQLITE_FILE")
	}
	if o.Store.Err != nil {
		return append(s.judge("store.reachable"), skipEach(area("store")[1:], "the store could not be read", "a store that responds")...)
	}
	return s.judge(area("store")...)
}

func storeReachable(s *subject) []Finding {
	if err := s.Store.Err; err != nil {
		return fail(err.Error(), "The database is away, refuses the connection, or is not the one that is meant. Nothing is stored while the collector cannot reach it either.",
			"Check that it runs, the connection string, and that this machine may connect. See WeirStoreAway in docs/operations.md.")
	}
	f := &s.Store.Facts
	for _, c := range s.Collectors {
		if id := c.Status.GetInfo().GetStoreId(); id != "" && f.StoreID != "" && id != f.StoreID {
			return fail(fmt.Sprintf("this is store %s; collector %s has store %s", f.StoreID, c.Address, id), "Another database than the collector's was inspected.", "Give the connection string that the collector has.")
		}
	}
	return pass("it responds, at revision %d", f.Head)
}

func storeVersion(s *subject) []Finding {
	f := &s.Store.Facts
	switch {
	case f.Driver != "postgres":
		return pass("SQLite %s", f.Version)
	case f.Major < leastPostgres:
		return fail("Postgres "+f.Version, "Weir is not tested with it.", fmt.Sprintf("Use Postgres %d or newer.", leastPostgres))
	default:
		return pass("Postgres %s", f.Version)
	}
}

func encoding(s *subject) []Finding {
	f := &s.Store.Facts
	if f.Encoding != "UTF8" && f.Encoding != "UTF-8" {
		return fail("the database's encoding is "+f.Encoding, "Names that it cannot represent are not stored: their windows become gaps.",
			"Create a database with ENCODING 'UTF8' TEMPLATE template0, and copy the data with pg_dump --encoding=UTF8.")
	}
	return pass("%s", f.Encoding)
}

func schema(s *subject) []Finding {
	f := &s.Store.Facts
	have := f.Schema
	switch {
	case have.Version == 0:
		return fail("the database has no schema", "A collector cannot start on it.", "Run collector migrate.")
	case have.OldestCompatible > f.SchemaWant:
		return fail(fmt.Sprintf("version %d, which releases of schema %d or newer can use; this release has %d", have.Version, have.OldestCompatible, f.SchemaWant), "This release cannot use the store.", "Use a newer release.")
	case have.Version < f.SchemaWant:
		return fail(fmt.Sprintf("version %d, and this release needs %d", have.Version, f.SchemaWant), "A collector of this release does not start.", "Run collector migrate.")
	case have.Version > f.SchemaWant:
		return warn(fmt.Sprintf("version %d is newer than that of this release (%d), which can still use it", have.Version, f.SchemaWant), "An upgrade is not complete, or was undone.", "Finish the upgrade.")
	default:
		return pass("version %d, that of this release", have.Version)
	}
}

func storeRole(s *subject) []Finding {
	f := &s.Store.Facts
	const grant = "Let one role own the tables and migrate, and run the collector as another: collector migrate --grant-writer=ROLE. See \"Database roles\" in docs/operations.md."
	switch {
	case f.Driver != "postgres":
		return pass("a file has no roles: protect it with the permissions of its folder")
	case f.Schema.Version == 0:
		return skip("the database has no schema", "a store that is migrated")
	case f.MissingRights != "":
		return fail(fmt.Sprintf("role %s lacks %s", f.Role, f.MissingRights), "A collector with this role does not start, or fails later.", "Run as the owner of the tables: collector migrate --grant-writer="+f.Role)
	case f.Superuser:
		return warn("role "+f.Role+" is a superuser", "Whoever gets the collector's credential can change everything on this server, stored history too.", grant)
	case f.OwnsTables:
		return warn("role "+f.Role+" owns the tables", "Whoever gets the collector's credential can change stored history.", grant)
	default:
		return pass("role %s has the rights of a collector and owns nothing", f.Role)
	}
}

func durability(s *subject) []Finding {
	f := &s.Store.Facts
	if f.Driver != "postgres" {
		if mode := f.Settings["journal_mode"]; mode != "wal" {
			return fail("journal_mode is "+mode, "It was changed by another program. Weir needs the write-ahead log.", "Stop Weir, and run: sqlite3 FILE 'PRAGMA journal_mode=WAL'.")
		}
		return pass("journal_mode is wal, and Weir commits with synchronous=FULL")
	}
	var off []string
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		if f.Settings[name] == "off" {
			off = append(off, name+" is off")
		}
	}
	if len(off) > 0 {
		return fail(some(off), "A power cut can undo commits that were already shown to Prometheus, or damage the database. Revisions would be used twice.",
			"Set them to on in postgresql.conf, or for the role with ALTER ROLE … RESET, and reload.")
	}
	return pass("fsync is on, full_page_writes is on, synchronous_commit is %s", f.Settings["synchronous_commit"])
}

func replication(s *subject) []Finding {
	f := &s.Store.Facts
	synchronous := f.Standbys["sync"] + f.Standbys["quorum"]
	const fix = "Set synchronous_standby_names with a standby that is connected, or accept it: back up the database, and know that a failover may take back the last commits."
	switch {
	case f.Driver != "postgres":
		return pass("a SQLite file is on one machine: its backup is its second copy (docs/operations.md, Backup and restore)")
	case f.SyncStandbyNames == "":
		return warn("synchronous_standby_names is empty", "A failover to a standby can take back commits that Prometheus has been shown. Exposers notice it, and take a new snapshot.", fix)
	case slices.Contains([]string{"off", "local"}, f.Settings["synchronous_commit"]):
		return warn("synchronous_standby_names is "+f.SyncStandbyNames+", but synchronous_commit is "+f.Settings["synchronous_commit"], "Commits do not wait for a standby.", "Set synchronous_commit to on for the collector's role.")
	case f.Standbys == nil:
		return warn("synchronous_standby_names is "+f.SyncStandbyNames+"; this role may not see the standbys", "Whether one is connected is not known.", "GRANT pg_monitor to the role that inspects.")
	case synchronous == 0:
		return fail("synchronous_standby_names is "+f.SyncStandbyNames+", and no synchronous standby is connected", "Commits wait until one is: nothing is stored.", "Connect a standby, or correct the names.")
	default:
		return pass("%d synchronous standbys are connected", synchronous)
	}
}

// perMonth is the growth in bytes; 0: not known.
func (s *Store) perMonth() int64 {
	if s.Facts.Buckets <= 0 || s.Facts.LastDay <= 0 {
		return 0
	}
	return int64(float64(s.Facts.Size) / float64(s.Facts.Buckets) * float64(s.Facts.LastDay) * month)
}

func space(s *subject) []Finding {
	capacity, f := s.Store.Capacity, &s.Store.Facts
	growth := s.Store.perMonth()
	found := bytes(f.Size)
	if growth > 0 {
		found += fmt.Sprintf(", growing by about %s a month (%d buckets in the last day)", bytes(growth), f.LastDay)
	} else {
		found += "; the growth is not known before the store is a day old and its statistics are up to date"
	}
	free := f.Free
	if capacity > 0 {
		free = capacity - f.Size
	}
	days := float64(free) / float64(max(growth, 1)) * month
	const fix = "Enlarge the volume, lower WEIR_RETENTION, or collect fewer datasets. See Sizing in docs/operations.md."
	switch {
	case free < 0 && capacity == 0:
		return skip(found+"; Postgres does not say how much space is free", "WEIR_STORE_CAPACITY, the bytes that the database may use")
	case free <= 0:
		return fail(found+", and no space is free", "Nothing can be stored.", fix)
	case growth > 0 && days < full:
		return warn(fmt.Sprintf("%s; %s are free, enough for about %.0f days", found, bytes(free), days), "When the space is used up, nothing is stored.", fix)
	case free < f.Size/10:
		return warn(fmt.Sprintf("%s; %s are free", found, bytes(free)), "Little space is left.", fix)
	default:
		return pass("%s; %s are free", found, bytes(free))
	}
}
