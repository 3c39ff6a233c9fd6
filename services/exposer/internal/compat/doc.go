// Package compat shows Weir's data under the names of another exporter, so that dashboards and
// alerts that were made for it go on: /counters/compat/lablabs. It is pure: the counters, the
// final buckets and the time are parameters.
//
// What is shown is one table (lablabs.go): for each of their families its name, its type and its
// labels, and the families of Weir that it is made of. The rest is general:
//
//   - A counter of theirs is the live counter of a family of Weir ([counters.Reading]) under
//     another name. Counters are never added up here: a sum of counters that come and go steps
//     back when one goes, and Prometheus adds all of the rest again. So a label of ours that they
//     lack stays, and the queries that add up over it are right.
//   - A gauge of theirs is the value of one final bucket ([View]): that of the window whose
//     traffic the counters show at the same time. So all families of a page are about the same
//     time, and exposers agree.
//   - What is not collected is named by a family of its own, and never shown as 0.
//
// Labels follow one rule, which keeps series apart: each label of theirs is a label of ours under
// another name, or follows from one, and what remains of ours is added under our own name.
package compat
