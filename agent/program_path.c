#include "agent/program_path.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool program_path_beside(const char *name, char ret_path[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[size > 0 ? size : 0] = '\0';
    const char *slash = strrchr(self, '/');
    int length = slash == NULL ? 0
                               : snprintf(ret_path, PATH_MAX, "%.*s/%s",
                                          (int)(slash - self), self, name);
    if (length > 0 && length < PATH_MAX && access(ret_path, X_OK) == 0) {
        return true;
    }
    (void)snprintf(ret_path, PATH_MAX, "%s", name);
    return false;
}
