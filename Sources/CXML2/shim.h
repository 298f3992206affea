// libxml2: the reader and the writer of S3's XML, with entities, DTDs and the network off.
#pragma once
#include <libxml/xmlversion.h>
// Where libxml2 is built with ICU, its headers bring ICU's types along. Foundation has them too, in another version, and a module
// that meets both does not compile. Nothing here uses them.
#undef LIBXML_ICU_ENABLED
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <libxml/xmlerror.h>
#include <libxml/xmlreader.h>
#include <libxml/xmlwriter.h>
