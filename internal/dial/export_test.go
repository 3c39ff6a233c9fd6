package dial

// OpenWith is Open with further options.
var OpenWith = open
