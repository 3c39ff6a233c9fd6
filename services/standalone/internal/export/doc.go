// Package export writes stored samples as OpenMetrics files from which promtool makes
// blocks, and removes them again.
//
// A folder has a manifest, which is written before anything that it names: an export that
// was killed is continued, and what it left behind can be removed by name. A file appears
// under its name when it is whole, and was read back before it counts as done. One command
// at a time works in a folder ([Hold]).
//
// OpenMetrics wants the samples of a family together, and the store has the families of a
// bucket together. So each family of a file is first written to a part of its own, in
// order of time, a file without a name, and the parts are joined. Memory does not depend on the range.
package export
