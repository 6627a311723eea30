# The one list of native sources: binding.gyp includes it, CMakeLists.txt reads it.
{
  'variables': {
    'tsvisor_sources': [
      'native/addon.cc',
      'native/clock.cc',
      'native/fd.cc',
      'native/vcpu.cc',
      'native/vcpu_inline.cc',
      'native/vcpu_threads.cc',
      'native/watch.cc',
    ],
  },
}
