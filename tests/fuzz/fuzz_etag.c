/* Lists of entity tags: a tag on the first line, a field behind it. */
#include <string.h>

#include "api/request/precondition.h"
#include "http/etag.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    char *field = text;
    const char *etag = strsep(&field, "\n");
    HW_AUTO_FREE char *versions = api_precondition_versions(field != NULL ? field : etag);

    if (field == NULL)
        field = text;
    if (versions == NULL) {
        FUZZ_HOLDS(strcmp(field, "*") == 0);
    } else {
        /* An array of bigints, whatever came: it goes into SQL as that. */
        FUZZ_HOLDS(versions[0] == '{' && versions[strlen(versions) - 1] == '}');
        FUZZ_HOLDS(strspn(versions + 1, "0123456789,") == strlen(versions) - 2);
        FUZZ_HOLDS(strstr(versions, ",,") == NULL && strstr(versions, "{,") == NULL);
    }
    if (http_etag_list_valid(field))
        FUZZ_HOLDS(strcmp(field, "*") == 0 || strchr(field, '"') != NULL);
    if (http_etag_list_has(field, etag) && etag[0] != '\0')
        FUZZ_HOLDS(strcmp(field, "*") == 0 || strstr(field, etag) != NULL);
    return 0;
}
