# The one list of native sources: binding.gyp includes it, CMakeLists.txt reads it.
{
  'variables': {
    'tsvisor_sources': [
      'native/addon.cc',
      'native/fd.cc',
      'native/watch.cc',
    ],
  },
}
