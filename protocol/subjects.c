#include "protocol/subjects.h"

#include "base/memory.h"

char *hw_subject_leader(const char *bucket)
{
    return hw_sprintf("%s." HW_SUBJECT_LEADER, bucket);
}

char *hw_subject_alive(const char *bucket, const char *node)
{
    return hw_sprintf("%s." HW_SUBJECT_ALIVE ".%s", bucket, node);
}

char *hw_subject_stream(const char *bucket, const char *stream)
{
    return hw_sprintf("%s." HW_SUBJECT_STREAMS ".%s", bucket, stream);
}

char *hw_subject_hint(const char *bucket, const char *prefix, const char *node)
{
    return hw_sprintf("%s.%s%s", bucket, prefix, node);
}
