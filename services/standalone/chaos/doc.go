// Package chaos is the fault campaign: the whole of Weir in one process, a
// simulated Cloudflare on one side, a model of Prometheus on the other, hours of
// virtual time in seconds, and a schedule of faults drawn from a seed. When the
// last fault is over and a calm time has passed, what must always be true is
// checked against what the simulator knows to have happened.
//
//	TEST_ALL=1 go test ./services/standalone/chaos -run TestChaos -chaos.seed=17 -chaos.runs=1
//
// # What is real
//
// Two collectors and two exposers run through their doors, with their gRPC and
// HTTP servers, clients, leases, budgets and back-offs; a further follower, the
// public client, records every entry. They speak over connections in memory that
// can be cut, stalled and refused, and share one SQLite file, each through a
// guard that can fail (package collectortest). A collector reads Cloudflare's
// token from a file, in which a worse one can take its place. Time is that of a
// testing/synctest bubble, so that waiting costs nothing.
//
// # What is played
//
// A process cannot be killed inside a process. Its death is played from
// outside: at one instant, or at a chosen call of the store or of Cloudflare,
// before it takes effect or after, everything that leaves the process is cut,
// and a new one with empty memory begins; the old one may think what it likes,
// nobody hears it. A pause (SIGSTOP) holds back all that leaves the process, and
// then lets it go at once, whatever has expired meanwhile. Clocks jump per
// process; machine time, by which leases go, does not, as on a real machine.
//
// # Accounts and credentials
//
// Most worlds collect the Workers of two accounts, and have two credentials of two
// Cloudflare users, one for each account; the second may see both. Tokens are rotated,
// swapped, restricted and refused, of one credential or of all, and faults of Cloudflare
// strike the requests of one alone. What belongs to the other must be on time.
//
// # What must be told
//
// That the end is right is not enough. Most schedules have one fault on a stage:
// Cloudflare refuses everything, one zone or one dataset in words that are in no
// documentation, or the token; a name cannot be a label; the store cannot be
// written; an older release has stored what nobody can read. What could hide it is
// taken out of the schedule, and then its signal must be told within minutes, as a
// problem, as the reason of a gap, by readiness, nothing may be missing of the
// neighbours, and the signal must be over a stated time after the fault. At the end
// of every world nothing is told but what stays, and at no time what nothing was
// done for. The same faults are drawn without a stage too, among all others.
//
// Damage to rows is played where drivers tell of it (collectortest), since the
// file is SQLite's. Entries that were never readable are written as they are.
//
// # Operators
//
// Operators create, pause, resume and cancel backfills, accept gaps and restate
// windows at any time. An answer may be lost, so that an outcome is not known; but
// what was answered must be what the log has: one audit event of each request that
// was carried out or refused, and of nothing else.
//
// # What repeats
//
// A seed gives the same schedule, the same zones and the same traffic. Which of
// two goroutines that wake at the same instant comes first is not drawn from it,
// so a failure that depends on that may need a few runs of its seed.
package chaos
