// Package jobs has the backfills that operators request: their records, their states, and
// the windows that they want.
//
// A job is a range, a selection of datasets and scopes, a reason and a state. It has no
// cursor and no list of what it has done. Like the loop it is level-triggered: [Evaluate]
// compares the range with the coverage, and puts each window into exactly one part of
// [Parts]. What is final is done, whoever stored it; so a restart or a change of leader at
// any point neither loses nor repeats work, and no final window is ever requested.
//
// Windows that the regular work wants too stay with it: it requests them in its own lanes,
// and the job waits for them. The job requests the others: windows before the start of a
// scope, from a time in which it was away, or that an operator had accepted as missing.
// They are wanted by the job only. No claim has them, so they are not gaps and do not count
// against how far a dataset is complete.
//
// A window that cannot be read is refused, for the first reason that applies: the scope is
// not collected; another bucket size covers it; the scope was not created yet; it is older
// than the store's retention; the plan does not allow the dataset; Cloudflare no longer has
// it; it kept failing. A window that Cloudflare had when the job was created, and no longer
// has, is lost. A job ends when no window is missing.
//
// [Work.Page] chooses what to request next, the newest windows first: a group of scopes and
// as many days of as many datasets as one request has room for. So a pass of the loop looks
// at the windows of one page, not at those of the job.
//
// Retention moves while a job lasts. Its windows that leave the store are counted once, by
// [Job.Advance], and are not looked at again: they may be dropped.
//
// The package is pure: no clock, no I/O, no goroutine.
package jobs
