// Package importer brings stored samples into Prometheus, VictoriaMetrics, or whatever
// takes remote write. Before anything is written it checks what would do harm, and refuses
// it with the reason ([Hazard]).
//
// An import is continued by running it again. Pushed samples are compared with the
// receiver first, and only what it lacks is sent. Blocks are made in a folder of their
// export alone inside the data folder and moved when they are whole; a journal has what was
// moved. One import at a time works on an export, and on a data folder.
package importer
